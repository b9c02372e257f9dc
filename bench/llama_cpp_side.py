"""llama.cpp's side of bench/llama, run by the interpreter that has llama-cpp-python.

usage: llama_cpp_side.py MODEL THREADS

The commands of bench/model.c, over llama.cpp's own C functions, so that nothing of Python's is timed:
    info                      what llama.cpp was built for
    ids TEXT N FILE           whether the first N token ids of a text are those in FILE
    compare IDS FROM N FILE   logits [N, vocabulary] of the other side beside one's own: KL, same top token
    prefill N, decode N PAST  seconds, as in bench/model.c
"""
import ctypes
import json
import sys
import time

import llama_cpp as lib
import numpy as np


@lib.llama_log_callback
def no_log(level, text, user):
    pass


class Context:
    def __init__(self, pointer, n_vocab):
        if not pointer:
            sys.exit("llama.cpp cannot make a context")
        self.pointer, self.n_vocab, self.n_past = pointer, n_vocab, 0
        self.memory = lib.llama_get_memory(pointer)

    def truncate(self, n):
        if self.n_past > n and not lib.llama_memory_seq_rm(self.memory, 0, n, -1):
            sys.exit("llama.cpp cannot shorten its cache")
        self.n_past = min(self.n_past, n)

    def run(self, n):
        """n tokens after those in the cache; only the last one's logits are made."""
        ids = (ctypes.c_int32 * n)(*((self.n_past + i) * 7919 % self.n_vocab for i in range(n)))
        if lib.llama_decode(self.pointer, lib.llama_batch_get_one(ids, n)) != 0:
            sys.exit("llama.cpp failed")
        lib.llama_synchronize(self.pointer)
        self.n_past += n


class Side:
    def __init__(self, path, threads):
        lib.llama_log_set(no_log, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp cannot read {path}")
        self.vocab = lib.llama_model_get_vocab(self.model)
        self.n_vocab = lib.llama_vocab_n_tokens(self.vocab)
        # On processors flash attention makes reading a prompt faster and writing slower: each gets what suits it.
        self.reader, self.writer = self.context(threads, lib.LLAMA_FLASH_ATTN_TYPE_ENABLED), self.context(threads, lib.LLAMA_FLASH_ATTN_TYPE_DISABLED)

    def context(self, threads, flash):
        params = lib.llama_context_default_params()
        params.n_ctx = 2048
        params.n_batch = params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = flash
        return Context(lib.llama_init_from_model(self.model, params), self.n_vocab)

    def timed(self, work):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    def info(self):
        return {"system": lib.llama_print_system_info().decode().strip(), "version": lib.__version__}

    def prefill(self, n):
        self.reader.truncate(0)
        return self.timed(lambda: self.reader.run(int(n)))

    def decode(self, n, past):
        if self.writer.n_past < int(past):
            self.writer.truncate(0)
            self.writer.run(int(past))
        self.writer.truncate(int(past))
        return self.timed(lambda: [self.writer.run(1) for _ in range(int(n))])

    def ids(self, path, n, file):
        n, wanted = int(n), np.fromfile(file, np.int32)
        with open(path, "rb") as f:
            text = f.read(n * 32)
        got = (ctypes.c_int32 * len(text))()
        n_got = lib.llama_tokenize(self.vocab, text, len(text), got, len(text), True, False)
        return {"same": bool(n_got >= n and np.array_equal(np.array(got[:n]), wanted[:n]))}

    def logits(self, ids):
        batch = lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
            batch.seq_id[i][0] = 0
        self.writer.truncate(0)
        if lib.llama_decode(self.writer.pointer, batch) != 0:
            sys.exit("llama.cpp failed")
        self.writer.n_past = len(ids)
        pointer = ctypes.cast(lib.llama_get_logits(self.writer.pointer), ctypes.POINTER(ctypes.c_float))
        rows = np.ctypeslib.as_array(pointer, shape=(len(ids), self.n_vocab)).copy()
        lib.llama_batch_free(batch)
        return rows

    def compare(self, path, first, n, file):
        first, n = int(first), int(n)
        ids = [int(i) for i in np.fromfile(path, np.int32)[first:first + n]]
        own, other = self.logits(ids), np.fromfile(file, np.float32).reshape(n, self.n_vocab)
        kl = []
        for a, b in zip(own, other):
            a, b = a.astype(np.float64), b.astype(np.float64)
            log_a, log_b = a - a.max(), b - b.max()
            log_a, log_b = log_a - np.log(np.exp(log_a).sum()), log_b - np.log(np.exp(log_b).sum())
            kl.append(float(np.exp(log_a) @ (log_a - log_b)))
        return {"kl": kl, "same_top": int((own.argmax(1) == other.argmax(1)).sum())}


def main(path, threads):
    side = Side(path, int(threads))
    for line in sys.stdin:
        command, *arguments = line.rstrip("\n").split("\t")
        print(json.dumps(getattr(side, command)(*arguments)), flush=True)


main(*sys.argv[1:])
