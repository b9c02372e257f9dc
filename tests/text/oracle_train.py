#!/usr/bin/env python3
"""A byte-level BPE learned by pith against the PyPI package `tokenizers`.

    oracle_train.py TRAIN_FILE TOKENIZE_FILE

From the same text both must learn the same merges, and `tokenizers` must read pith's file and give the ids that pith
gives.
"""
import glob
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer, models, pre_tokenizers as P, trainers


def system_text(n):
    """The first n characters of what Python's own library says, which is on every machine that runs this."""
    library = os.path.dirname(os.__file__)
    parts = []
    for path in sorted(glob.glob(os.path.join(library, "*.py"))):
        with open(path, encoding="utf-8", errors="ignore") as f:
            parts.append(f.read())
        if sum(map(len, parts)) >= n:
            break
    return "".join(parts)[:n]


def learn(text, size, pre):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, special_tokens=["<|endoftext|>"], initial_alphabet=P.ByteLevel.alphabet(), show_progress=False)
    start = time.perf_counter()
    tok.train_from_iterator([text], trainer)
    return tok, time.perf_counter() - start


def merges(tok):
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in json.loads(tok.to_str())["model"]["merges"]]


def main():
    train, tokenize = sys.argv[1:3]
    text, other = system_text(1_500_000), system_text(1_900_000)[-300_000:] + "<|endoftext|> 12345 naïve \U0001F600\r\n"
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        source, out, texts, ids = (os.path.join(folder, n) for n in ("text", "tokenizer.json", "texts", "ids"))
        with open(source, "w", encoding="utf-8", newline="") as f:
            f.write(text)
        for name, pre, size in (("gpt-2", P.ByteLevel(add_prefix_space=False), 2048),
                                ("smollm", P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=False)]), 6000)):
            seconds = float(subprocess.run([train, source, str(size), name, out], check=True, capture_output=True, text=True).stdout)
            theirs, their_seconds = learn(text, size, pre)
            ours = Tokenizer.from_file(out)
            a, b = merges(ours), merges(theirs)
            same = next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), min(len(a), len(b)))
            if a != b:
                print(f"{name}: merge {same} of {len(a)} differs: {a[same:same + 1]} {b[same:same + 1]}")
                failed += 1
            if ours.get_vocab() != theirs.get_vocab():
                print(f"{name}: the vocabularies differ")
                failed += 1
            with open(texts, "wb") as f:
                data = other.encode()
                f.write(struct.pack("<I", len(data)) + data)
            subprocess.run([tokenize, out, texts, ids], check=True, capture_output=True)
            with open(ids, "rb") as f:
                raw = f.read()
            n = struct.unpack_from("<I", raw)[0]
            if list(struct.unpack_from(f"<{n}i", raw, 4)) != ours.encode(other).ids:
                print(f"{name}: ids differ")
                failed += 1
            print(f"{name}: {len(a)} merges, {n} ids; {seconds:.2f} s, tokenizers {their_seconds:.2f} s")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
