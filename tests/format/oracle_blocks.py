"""Writes what the PyPI package gguf says of block types to standard output, for test_oracle.c.

Records, little-endian: kind u32, dtype u32, n_values u64, n_bytes u64, then
  kind 0 (the type's name):  n_values is the block's length, n_bytes the block's size, 32 bytes of name
  kind 1 (decode):           n_bytes of blocks, n_values f32 they decode to
  kind 2 (encode):           n_values f32, n_bytes of blocks they encode to
"""
import struct
import sys

import gguf
import numpy as np

T = gguf.GGMLQuantizationType
DECODED_BY_GGUF = [t for t in T if t in gguf.quants._type_traits] + [T.F16]
ENCODED_ALIKE = [T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.BF16]
N_BLOCKS = 1024


def put(kind, dtype, n_values, n_bytes, *data):
    sys.stdout.buffer.write(struct.pack("<IIQQ", kind, dtype, n_values, n_bytes))
    for d in data:
        sys.stdout.buffer.write(d)


rng = np.random.default_rng(20)
np.seterr(all="ignore")
for t in T:
    block_len, block_bytes = gguf.GGML_QUANT_SIZES[t]
    put(0, t, block_len, block_bytes, t.name.encode().ljust(32, b"\0"))
for t in DECODED_BY_GGUF:
    block_len, block_bytes = gguf.GGML_QUANT_SIZES[t]
    blocks = rng.integers(0, 256, (N_BLOCKS, block_bytes), dtype=np.uint8)
    values = gguf.quants.dequantize(blocks, t)
    put(1, t, N_BLOCKS * block_len, blocks.size, blocks.tobytes(), values.astype("<f4").tobytes())
for t in ENCODED_ALIKE:
    block_len, block_bytes = gguf.GGML_QUANT_SIZES[t]
    n = 256 * 64
    values = rng.standard_normal((n // 256, 256)).astype("<f4") * np.exp(rng.standard_normal((n // 256, 1)) * 3).astype("<f4")
    values[3, :64] = 0
    values[4] = 1.5
    values[5, 1::2] = -values[5, ::2]
    blocks = gguf.quants.quantize(values, t)
    put(2, t, n, blocks.nbytes, values.tobytes(), blocks.tobytes())
