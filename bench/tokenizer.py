#!/usr/bin/env python3
"""Tokenizing beside the PyPI package `tokenizers`: bytes a second of both on the same texts, one thread each, the
fastest of several passes.

    PITH_TEST_MODEL=SmolLM2.gguf bench/tokenizer.py build/tests/text/tokenize_file [TEXT_FILE ...]

Without files: the mixed text of tests/text/oracle_test.py.  `tokenizers` reads each text as a str, pith as bytes.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests/text"))
from oracle_test import mixed_text, smollm2, trained, write_texts  # sets one thread for `tokenizers`


def main(program, files):
    folder = tempfile.mkdtemp()
    if files:
        whole = "".join(open(f, encoding="utf8", errors="replace").read() for f in files)
        texts = [whole[i:i + 4000] for i in range(0, len(whole), 4000)]
    else:
        texts = mixed_text(2_000_000)
    n = sum(len(t.encode()) for t in texts)
    toks = {**smollm2(os.environ["PITH_TEST_MODEL"]), **trained(texts[:200])}
    print("tokenizer\ttokenizers MB/s\tpith MB/s\tratio\tpith's load ms")
    for name, tok in toks.items():
        path, source = os.path.join(folder, name + ".json"), os.path.join(folder, "texts")
        tok.save(path)
        write_texts(source, texts)
        best = 1e9
        for _ in range(3):
            t0 = time.perf_counter()
            for t in texts:
                tok.encode(t)
            best = min(best, time.perf_counter() - t0)
        n_bytes, seconds, load = subprocess.run([program, path, source, os.devnull, "2"], capture_output=True, text=True, check=True).stdout.split()
        assert int(n_bytes) == n
        print(f"{name}\t{n / best / 1e6:.2f}\t{n / float(seconds) / 1e6:.1f}\t{best / float(seconds):.1f}\t{1e3 * float(load):.1f}", flush=True)


main(sys.argv[1], sys.argv[2:])
