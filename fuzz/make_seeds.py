"""Seeds for the fuzz targets: small files, valid and nearly so.

usage: make_seeds.py FOLDER               writes FOLDER/<target>/<n>
       make_seeds.py --replay EXE TARGET  runs a replay program over a target's seeds

A target's seeds are made by the function of its name, which yields bytes.
"""
import base64
import json
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import zlib

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
SCALARS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
# number, values a block, bytes a block (ggml-org/ggml, docs/gguf.md and ggml-common.h)
GGML_TYPES = [(0, 1, 4), (1, 1, 2), (2, 32, 18), (3, 32, 20), (6, 32, 22), (7, 32, 24), (8, 32, 34), (9, 32, 36), (10, 256, 84), (11, 256, 110),
              (12, 256, 144), (13, 256, 176), (14, 256, 210), (15, 256, 292), (16, 256, 66), (17, 256, 74), (18, 256, 98), (19, 256, 50), (20, 32, 18),
              (21, 256, 110), (22, 256, 82), (23, 256, 136), (24, 1, 1), (25, 1, 2), (26, 1, 4), (27, 1, 8), (28, 1, 8), (29, 256, 56), (30, 1, 2),
              (34, 256, 54), (35, 256, 66), (39, 32, 17), (40, 64, 36), (41, 128, 18), (42, 64, 18)]


# ---- GGUF ----

def gguf_str(s):
    s = s.encode() if isinstance(s, str) else s
    return struct.pack("<Q", len(s)) + s


def gguf_value(type_, v):
    if type_ == STRING:
        return gguf_str(v)
    if type_ == ARRAY:
        item, values = v
        return struct.pack("<IQ", item, len(values)) + b"".join(gguf_value(item, x) for x in values)
    return struct.pack("<" + SCALARS[type_], v)


def gguf_file(keys, tensors, version=3, alignment=32):
    """keys: (name, type, value); tensors: (name, dims as in the file, type number, bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    for name, type_, value in keys:
        head += gguf_str(name) + struct.pack("<I", type_) + gguf_value(type_, value)
    data = b""
    for name, dims, number, content in tensors:
        head += gguf_str(name) + struct.pack("<I", len(dims)) + struct.pack("<%dQ" % len(dims), *dims) + struct.pack("<IQ", number, len(data))
        data += content + bytes(-len(content) % alignment)
    return head + bytes(-len(head) % alignment) + data


def model_keys(arch, kind):
    keys = [("general.architecture", STRING, arch), (arch + ".block_count", U32, 1), (arch + ".context_length", U32, 64),
            (arch + ".embedding_length", U32, 32), (arch + ".feed_forward_length", U32, 64), (arch + ".attention.head_count", U32, 4),
            (arch + ".attention.head_count_kv", U32, 2), (arch + ".rope.freq_base", F32, 10000.0),
            (arch + ".attention.layer_norm_rms_epsilon", F32, 1e-5), ("tokenizer.ggml.model", STRING, kind),
            ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<unk>", "<s>", "</s>", "a", "b", "ab"])),
            ("tokenizer.ggml.token_type", ARRAY, (I32, [2, 3, 3, 1, 1, 1])), ("tokenizer.ggml.bos_token_id", U32, 1),
            ("tokenizer.ggml.eos_token_id", U32, 2), ("tokenizer.ggml.add_bos_token", BOOL, 1), ("tokenizer.chat_template", STRING, "{{ messages }}")]
    if kind == "gpt2":
        keys += [("tokenizer.ggml.pre", STRING, "smollm"), ("tokenizer.ggml.merges", ARRAY, (STRING, ["a b"]))]
    else:
        keys += [("tokenizer.ggml.scores", ARRAY, (F32, [0.0, 0.0, 0.0, -1.0, -2.0, -3.0])),
                 ("tokenizer.ggml.precompiled_charsmap", ARRAY, (U8, [1, 2, 3]))]
    return keys


def gguf():
    rng = random.Random(1)
    table = [("token_embd.weight", [32, 6], 8, rng.randbytes(6 * 34)), ("output_norm.weight", [32], 0, bytes(128))]
    for arch in ("llama", "qwen2", "other"):
        for kind in ("gpt2", "llama", "t5", "bert", "none"):
            yield gguf_file(model_keys(arch, kind), table)
    for scaling in ("linear", "yarn", "none"):
        yield gguf_file(model_keys("llama", "gpt2") + [("llama.rope.scaling.type", STRING, scaling), ("llama.rope.scaling.factor", F32, 4.0),
                        ("llama.rope.scaling.original_context_length", U32, 16)], table)
    factors = struct.pack("<4f", 1.0, 1.0, 5.0, 8.0)
    yield gguf_file(model_keys("llama", "gpt2"), table + [("rope_freqs.weight", [4], 0, factors)])
    yield gguf_file([("general.alignment", U32, 256), ("split.count", U32, 3)], [("t", [4], 0, bytes(16))], alignment=256)
    yield gguf_file([("n" + str(t), t, 1) for t in SCALARS], [], version=2)
    yield gguf_file([("n" + str(t), ARRAY, (t, [0, 1, 0])) for t in SCALARS] + [("nested", ARRAY, (ARRAY, [(U8, [1, 2]), (STRING, ["x"])]))], [])
    for number, values, size in GGML_TYPES:
        yield gguf_file([], [("t", [values, 2], number, rng.randbytes(2 * size))])
    yield gguf_file([], [])


# ---- safetensors ----

def safetensors_file(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def safetensors():
    sizes = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4,
             "U16": 2, "U8": 1, "BOOL": 1}
    for name, size in sizes.items():
        yield safetensors_file({"t": {"dtype": name, "shape": [2, 3], "data_offsets": [0, 6 * size]}}, bytes(range(6 * size)))
    yield safetensors_file({"__metadata__": {"format": "pt", "x": "y"}, "model.layers.0.mlp.up_proj.weight": {"dtype": "F32", "shape": [2],
                           "data_offsets": [0, 8]}, "s": {"dtype": "F16", "shape": [], "data_offsets": [8, 10]}, "e": {"dtype": "I8", "shape": [0, 9],
                           "data_offsets": [8, 8]}}, bytes(10))
    yield safetensors_file({}, b"")
    yield safetensors_file(b'{"a\\u0000b":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4.0]}}   ', bytes(4))
    yield safetensors_file(b'{"t":' + b"[" * 200 + b"]" * 200 + b"}", b"")
    yield safetensors_file({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]}}, bytes(6))


def config():
    base = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0}
    more = [{}, {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True}, {"model_type": "other", "nested": {"a": [1, None, "x"]}},
            {"hidden_act": "gelu"}, {"head_dim": 32, "partial_rotary_factor": 0.5}]
    for type_ in ("linear", "llama3", "yarn", "dynamic", "default"):
        for place in ("rope_scaling", "rope_parameters"):
            more.append({place: {"rope_type": type_, "factor": 4.0, "low_freq_factor": 1, "high_freq_factor": 4, "beta_fast": 32, "beta_slow": 1,
                                 "original_max_position_embeddings": 128, "attention_factor": None, "rope_theta": 5e5}})
    for m in more:
        yield json.dumps(base | m).encode()
    yield b"{}"
    yield b"[]"


# ---- model folders: files by their number in fuzz_folder.c ----

def folder():
    def files(*parts):
        out = b""
        for number, content in parts:
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            out += bytes([255, number]) + content
        return out

    def part(*names, data=None):
        header = {name: {"dtype": "F16", "shape": [2, 2], "data_offsets": [8 * i, 8 * i + 8]} for i, name in enumerate(names)}
        return struct.pack("<H", 8 * len(names) if data is None else data) + json.dumps(header | {"__metadata__": {"format": "pt"}}).encode()

    def index(**parts):
        return {"metadata": {"total_size": 32}, "weight_map": {name: file.replace("_", ".") for name, file in parts.items()}}

    llama, llama2 = next(config()), list(config())[7]
    layer = ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight", "lm_head.weight"]
    tok = {"added_tokens": [], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
           "merges": ["a b"]}}
    two = index(a="a_safetensors", b="b_safetensors", c="a_safetensors")
    yield files((1, two), (3, part("a", "c")), (4, part("b")))
    yield files((0, llama), (1, index(**{n: ("a_safetensors", "b_safetensors")[i % 2] for i, n in enumerate(layer)})), (3, part(*layer[::2])), (4, part(*layer[1::2])),
                (6, tok), (7, {"bos_token": "a", "eos_token": {"content": "b"}}), (8, b"{{ messages }}"))
    yield files((0, llama), (2, part(*layer)), (6, tok), (7, {"chat_template": "x"}))
    yield files((0, llama2), (5, part(*layer, "other")))
    yield files((1, two), (3, part("a", "c")))
    yield files((1, two), (3, part("a", "b", "c")), (4, part("b")))
    yield files((1, two), (3, part("a", "c", data=8)), (4, part("b")))
    yield files((1, index(a="../a_safetensors")), (3, part("a")))
    yield files((1, b'{"weight_map":{"a":"a.safetensors\\u0000"},"weight_map":{}}'), (3, part("a")))
    yield files((2 | 128, safetensors_file({"t": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}, bytes(4))))
    yield files((0, llama), (3, part("a")), (4, part("b")))
    yield files()


# ---- .pith containers; the target puts the checksums right ----

def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def text(s):
    return varint(len(s)) + s.encode()


def pith_file(sections, packets, holds=0):
    body = b""
    for kind, data in sections:
        body += struct.pack("<IIQQQQ", kind, 0, len(data), len(data), 0, 0) + data + bytes(-len(data) % 8)
    tail = b"".join(struct.pack("<IIIfBBH", 0, unit, len(data), 0.5, level, kind, 0x7470) + data for unit, level, kind, data in packets)
    head = b"PITH\r\n\x1a\n" + struct.pack("<IIQQQQQQ", 1, len(sections), 64 + len(body), 64 + len(body) + len(tail), 64 + len(body), 0, holds, 0)
    return head + body + tail


def pith():
    numbers = ("n_layers n_embd n_ff n_heads n_kv_heads head_dim n_vocab n_ctx rope_dims rope_original_ctx sliding_window norm_eps rope_base "
               "rope_factor rope_low_freq_factor rope_high_freq_factor rope_attn_factor rope_beta_fast rope_beta_slow").split()
    model = dict({n: 1 for n in numbers}, architecture="llama", rope_style="pairs", rope_scaling="none", tied_embeddings=True)
    meta = json.dumps({"model": model, "measured": [{"bytes": 1000, "kl_mean": 0.1}]}).encode()
    vocab = bytes([1]) + text("smollm") + struct.pack("<5i", 0, 1, -1, -1, -1) + bytes([128]) + text("") + text("")
    vocab += varint(4) + text("a") + text("b") + text("<s>") + text("ab") + bytes([1, 1, 3, 1]) + varint(1) + bytes([1]) + varint(3) + varint(1)
    vocab += varint(0) + bytes([0]) + text("") + text("") + varint(0)
    tensors = varint(2)
    for name, rows, cols, scale in (("token_embd.weight", 20, 40, 2), ("blk.0.attn_q.weight", 16, 32, 0)):
        tensors += text(name) + varint(rows) + varint(cols) + varint(1) + varint(3) + varint(4) + varint(scale) + struct.pack("<f", 0.001)
    vectors = varint(2) + text("output_norm.gain") + varint(2) + bytes([0]) + struct.pack("<2f", 1, 2)
    vectors += text("token_embd.scale") + varint(40) + bytes([1]) + bytes([128] * 40) + bytes([0] * 39 + [1])
    one = lambda symbol: bytes([0, symbol, symbol])
    models = one(0) + one(0) + bytes([1, 39]) + bytes([128] * 40) + b"".join(one(8) for _ in range(9))
    rotation = struct.pack("<I", 2) + bytes([0, 0, 0, 0]) + bytes([64, 0, 0, 64])
    sections = [(1, meta), (2, vocab), (3, tensors), (4, vectors), (5, models), (6, rotation)]
    start = struct.pack("<IB", 0, 100)
    packets = [(0, 0, 0, start), (1, 0, 0, start), (2, 0, 0, start + bytes(64)), (0, 1, 0, struct.pack("<I", 0) + bytes(128)), (0, 1, 0, struct.pack("<I", 0))]
    whole = pith_file(sections, packets)
    yield whole
    # with an exact layer: every symbol is "as predicted", so that the streams are empty
    tensors = varint(3)
    for name, dtype, basis, scale in (("token_embd.weight", 8, 4, 1), ("blk.0.attn_q.weight", 3, 1, 2), ("blk.0.attn_output.weight", 2, 2, 0)):
        tensors += text(name) + varint(32) + varint(32) + varint(1) + varint(dtype) + varint(basis) + varint(scale) + struct.pack("<f", 0.001)
    vectors = varint(3)
    for name in ("token_embd.scale", "blk.0.attn_norm.weight"):
        vectors += text(name) + varint(32) + bytes([1]) + bytes([128] * 32) + bytes([0] * 32)
    vectors += text("blk.0.attn_norm.gain") + varint(32) + bytes([0]) + struct.pack("<32f", *([1.5] * 31 + [0]))
    low = bytes(32 * 32)
    high = bytearray(low)
    high[0 :: 33] = bytes([64] * 32)
    exact_models = b"".join(struct.pack("<H", i) + one(128) for i in range(26 + 23 * 32)) + struct.pack("<H", 65535)
    exact_sections = [(1, meta), (2, vocab), (3, tensors), (4, vectors), (5, models), (6, struct.pack("<I", 32) + low + bytes(high)), (7, exact_models)]
    layers = [(unit, 0, 0, start) for unit in range(6)]
    for ends in (0, 1):  # in f16, with three low bits each, or in bf16
        scales = lambda n: struct.pack("<BI", ends, 0) + bytes(6 * n if ends == 0 else 0)
        numbers = [(unit, 0, 1, bytes([1]) * (2 if unit > 3 else 1) + scales(2 if unit in (2, 3) else 1)) for unit in range(6)]
        for n in range(7):
            yield pith_file(exact_sections, layers + numbers[:n])
            yield pith_file(exact_sections, layers + numbers[n:])
    for keep in range(len(sections)):
        yield pith_file(sections[:keep] + sections[keep + 1:], packets)
    for cut in (0, 7, 63, 64, 104, len(whole) - 1, len(whole) - 70, len(whole) // 2):
        yield whole[:cut]
    rng = random.Random(5)
    for _ in range(8):
        noisy = bytearray(whole)
        for _ in range(4):
            noisy[rng.randrange(64, len(noisy))] = rng.choice((0, 1, 127, 128, 255))
        yield bytes(noisy)
    yield from stored(sections)


# Files to the bit, as docs/format.md has them.

def rans_stream(segments):
    """segments: (bits of the sum of all frequencies, {symbol: frequency} in order, symbols); with one frequency nothing is stored."""
    states, words = [1 << 16] * 32, []
    for bits, freq, symbols in reversed(segments):
        if len(freq) == 1:
            continue
        start = {s: sum(f for t, f in freq.items() if t < s) for s in freq}
        for i in reversed(range(len(symbols))):
            lane, f = i % 32, freq[symbols[i]]
            if states[lane] >= f << (32 - bits):
                words.append(states[lane] & 0xFFFF)
                states[lane] >>= 16
            states[lane] = (states[lane] // f << bits) + start[symbols[i]] + states[lane] % f
    return b"" if states == [1 << 16] * 32 else struct.pack("<32I%dH" % len(words), *states, *reversed(words))


def rans_model(freq):
    """Of at most two symbols, as bytes; the upper one is above 15, whose slots are in order."""
    low, high = min(freq), max(freq)
    if low == high:
        return bytes([0, low, high])
    length = freq[low].bit_length()
    bits, n = length | (freq[low] - (1 << (length - 1))) << 4, 4 + length - 1
    zeros = high - low - 1
    while zeros > 0:
        bits, n, zeros = bits | (min(zeros, 16) - 1) << n + 4, n + 8, zeros - min(zeros, 16)
    return bytes([0, low, high]) + bits.to_bytes((n + 7) // 8, "little")


def fields(values, bits):
    out, low = b"", 0
    for plane in (16, 8, 4, 2, 1):
        if not bits & plane:
            continue
        part = [v >> low & (1 << plane) - 1 for v in values]
        if plane >= 8:
            out += b"".join(v.to_bytes(plane // 8, "little") for v in part)
        else:
            h = (len(part) * plane + 7) // 8
            out += bytes(sum(v << plane * k for k, v in enumerate(part[i::h])) for i in range(h))
        low += plane
    return out


FLOATS = {0: (4, 20), 1: (2, 7), 30: (2, 4)}  # number of the type: bytes of a value, its low bits


def float_run(number, values, row, zeros_apart=False):
    """values: their bits.  All rows have the first one's level; the most frequent key has a symbol, others are escapes."""
    size, low = FLOATS[number]
    sign = 1 << 8 * size - 1
    rows = [values[i:i + row] for i in range(0, len(values), row)]
    kept = [v for v in values if v or not zeros_apart]
    level = (kept[0] & ~sign) >> low + 1 if kept else 0
    symbols = [200 + key - 2 * level if 0 < 200 + key - 2 * level < 256 else 0 for key in ((v & ~sign) >> low for v in kept)]
    common = max(set(symbols), key=symbols.count)
    symbols = [common if s == common else 0 for s in symbols]
    freq = {common: 4096} if common == symbols[0] and len(set(symbols)) == 1 else {0: 1024, common: 3072}
    models, segments = [(4 + level % 4, rans_model(freq))], [(12, freq, symbols)]
    if zeros_apart:
        density = min(64 * rows[0].count(0) // len(rows[0]), 63)
        models += [(2, bytes([0, density, density])), (3, bytes([1, 63]) + bytes([128] * 64))]
        segments = [(15, {0: 16384, 1: 16384}, [int(v == 0) for v in values])] + segments
    models += [(1, bytes(3))] + ([(0, bytes(3))] if len(rows) > 1 else [])
    stream = rans_stream(segments)
    escapes = b"".join(struct.pack("<H", (v & ~sign) >> low) for v, s in zip(kept, symbols) if s == 0)
    head = struct.pack("<BBHI", zeros_apart, sum(1 << i for i, _ in models), level, len(stream)) + b"".join(m for _, m in sorted(models)) + stream
    signed = [v & (1 << low) - 1 | (v >= sign) << low for v in kept]
    per_row, tails, at = [sum(1 for v in r if v or not zeros_apart) for r in rows], b"", 0
    while per_row:  # rows are taken together up to 4096 values
        n = per_row.pop(0)
        while per_row and n + per_row[0] <= 4096:
            n += per_row.pop(0)
        tails, at = tails + fields(signed[at:at + n], low + 1), at + n
    return head + escapes + tails


def block_run(number, blocks):
    """All scales are exceptions; numbers are of one class."""
    has_min, content = number in (3, 7), b""
    at = 4 if has_min else 2
    end = float_run(1, [0x3C00] * len(blocks), 512)
    numbers = [x for b in blocks for x in b[at:]] if number == 8 else []
    freq = {min(numbers): 2048, max(numbers): 2048} if number == 8 else {8: 4096}
    stream = rans_stream([(12, freq, numbers)])
    for i, b in enumerate(blocks):
        content += struct.pack("<I", i) + b[:4] if has_min else struct.pack("<I", i) + b[:2] + bytes(2)
    model = rans_model(freq)
    return struct.pack("<B5I", 0, len(blocks), len(end) if has_min else 0, len(end), 1, len(stream)) + content + end * (1 + has_min) + model + stream


def zstd_frame(content):
    """One block, as it is."""
    return struct.pack("<IBB", 0xFD2FB528, 0x20, len(content)) + struct.pack("<I", len(content) << 3 | 1)[:3] + content


def chunk(kind, payload):
    return bytes([kind]) + bytes(8) + payload  # a hash that is wrong: it is looked at last


def stored_file(files, holds=1, more=()):
    """files: (name, stretches), a stretch being (bytes, type, row, bytes of a chunk, payloads)."""
    table, packets = varint(len(files)), []
    for name, stretches in files:
        table += text(name) + varint(len(stretches))
        for length, kind, row, chunk, payloads in stretches:
            table += varint(length) + varint(kind) + varint(row) + varint(chunk)
            packets += [(len(packets) + i, 0, 2, payload) for i, payload in enumerate(payloads)]
    return pith_file([(1, b'{"made":{}}'), *more, (8, table)], packets, holds)


def stored(model_sections):
    plain = lambda content: (len(content), 0, 0, 1 << 22, [chunk(0, content)])
    packed = lambda content: (len(content), 0, 0, 1 << 22, [chunk(1, zstd_frame(content))])
    rng = random.Random(6)
    values = lambda number, n: [rng.choice((1, 1, 3, 3, 2)) << 8 * FLOATS[number][0] - 2 | rng.randrange(1 << FLOATS[number][1]) for _ in range(n)]
    widths = {"F32": 0, "F16": 1, "BF16": 30}

    def run(number, bits, row, rows_a_chunk=1 << 20, **more):
        size, step = FLOATS[number][0], row * min(rows_a_chunk, -(-len(bits) // row))
        parts = [bits[i:i + step] for i in range(0, len(bits), step)]
        return size * len(bits), 1 + number, row, size * step, [chunk(2, float_run(number, part, row, **more)) for part in parts]

    floats = {name: values(number, 150) for name, number in widths.items()}
    sparse = {name: [v if rng.randrange(3) else 0 for v in bits] for name, bits in floats.items()}
    header, at = {}, 0
    for name, number in widths.items():
        header[name] = {"dtype": name, "shape": [2, 75], "data_offsets": [at, at + 150 * FLOATS[number][0]]}
        at += 150 * FLOATS[number][0]
    head = safetensors_file(header, b"")
    model = ("model.safetensors", [plain(head)] + [run(number, floats[name], 75) for name, number in widths.items()])
    q8 = [rng.randbytes(2) + bytes(rng.choice((1, 200)) for _ in range(32)) for _ in range(3)]
    q4 = [bytes(4) + bytes([0x88] * 16) for _ in range(2)]
    gguf_head = gguf_file([("general.architecture", STRING, "llama")], [("a", [32, 3], 8, b"".join(q8)), ("b", [64], 3, b"".join(q4))])
    blocks = ("tiny.gguf", [packed(gguf_head[:-128 - 64]), (102, 9, 0, 34 * 4, [chunk(2, block_run(8, q8))]), packed(bytes(26)), (40, 4, 0, 40, [chunk(2, block_run(3, q4))]), packed(bytes(24))])
    whole = stored_file([model])
    yield whole
    yield stored_file([blocks])
    yield stored_file([("a/config.json", [packed(b"{}")]), ("a/empty", []), model, ("z/tiny.gguf", blocks[1])], 2)
    yield stored_file([model, model], 2)
    yield stored_file([model, blocks])
    for number in widths.values():
        name = {v: k for k, v in widths.items()}[number]
        yield stored_file([("a", [run(number, sparse[name], 30, zeros_apart=True)])])
        yield stored_file([("a", [run(number, floats[name], 1, 40), run(number, values(number, 5000), 4096)])])
        yield stored_file([("a", [(8, 1 + number, row, 8, [chunk(2, float_run(number, [1] * (8 // FLOATS[number][0]), 4))]) for row in (0, 1, 4097)])])
    for number, values_a_block, size in GGML_TYPES:
        yield stored_file([("a", [(size, 1 + number, 0, size, [chunk(k, bytes(size))]) for k in range(3)])])
    for name in ("../x", "/x", "a//b", "", ".", "a/../b", "a\0b", "a\nb", "n" * 4097):
        yield stored_file([(name, [plain(b"x")])], 2)
    for fields_ in ((0, 0, 0, 1), (1, 0, 0, 0), (1, 0, 0, (1 << 24) + 1), ((1 << 64) - 1, 0, 0, 1 << 24), (1 << 40, 0, 0, 1), (1 << 21, 0, 0, 1 << 21), (6, 1, 1, 4), (4, 6, 0, 4)):
        yield stored_file([("a", [(*fields_, [chunk(0, b"x")])])])
    for more in (model_sections[1:], model_sections[2:3]):
        for holds in (0, 1, 2, 3):
            yield stored_file([model], holds, more)
    yield stored_file([model], 0)
    for cut in (64, 104, len(whole) // 2, len(whole) - 1):
        yield whole[:cut]


# ---- the entropy coder ----

def rans():
    rng = random.Random(2)
    for first in (0, 1):
        for n in (0, 1, 16, 64, 300, 2000):
            yield bytes([first]) + rng.randbytes(n)
            yield bytes([first]) + bytes(rng.choice((0, 0, 0, 1, 2, 255)) for _ in range(n))


# ---- circuits and their images, as docs/format.md has them; the target writes the checksums ----

def circuit_file(variables, parents, n_states, rows_of):
    n = len(variables)
    head = b"PITHCIRC" + struct.pack("<6I", 1, n, n_states, 4, 0, 0)
    return head + struct.pack("<%dI" % (2 * n), *variables, *parents) + b"".join(struct.pack("<%df" % len(rows), *rows) for rows in rows_of) + bytes(8)


def circuit():
    none, rng = 0xFFFFFFFF, random.Random(4)
    leaf, edge = [0.25] * 4 + [0.5, 0, 0, 0.5], [0.5, 0.5, 1, 0]
    three = [[0.5, 0.5] + leaf] + [edge + leaf] * 2
    yield b"\0" + circuit_file([2, 0, 1], [none, 0, 0], 2, three)
    yield b"\0" + circuit_file([2, 0, 1], [none, 0, 1], 2, three)
    yield b"\0" + circuit_file([2, 2, 1], [none, 0, 1], 2, three)
    yield b"\0" + circuit_file([2, 0, 1], [none, 2, 0], 2, three)
    yield b"\0" + circuit_file([0], [none], 2, [[0.5, float("nan")] + leaf])
    yield b"\0" + circuit_file([0], [none], 2, [[0, 1] + leaf])[:-9]
    for n in (0, 1, 4, 33, 70, 1 << 40):
        blocks = [rng.randbytes(rng.randrange(40)) for _ in range(min(n, 99) // 32 + 1)]
        yield b"\1PITHCIMG" + struct.pack("<IIQ", 1, 4, n) + bytes(24) + b"".join(struct.pack("<I", len(b)) + b for b in blocks)


# ---- tokenizers: a tokenizer.json, or a choice byte and a text or chat template ----

def chat_templates():
    """The templates of tests/text/chat_samples.h: the first literals after a comment that begins a sample."""
    header = pathlib.Path(__file__).resolve().parent.parent / "tests" / "text" / "chat_samples.h"
    for sample in re.findall(r'{ /\*.*?\*/\s*((?:"(?:[^"\\]|\\.)*"\s*)+),', header.read_text()):
        literals = re.findall(r'"((?:[^"\\]|\\.)*)"', sample)
        yield "".join(literals).encode("latin-1", "replace").decode("unicode_escape")


def tokenizer():
    words = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "\u2581ab", "\u00e9", "##b", "\u0000", "<0x41>", "\u0120", "\u0120a"]
    charsmap = base64.b64encode(struct.pack("<I", 1024) + struct.pack("<256I", 1 << 10, *[0x61] * 255) + b"x\0y\0").decode()
    added = [{"id": i, "content": words[i], "special": i < 2, "normalized": i > 1, "lstrip": i == 1, "rstrip": i == 2, "single_word": i == 2} for i in range(3)]
    normalizers = [None, {"type": "NFC"}, {"type": "NFKD"}, {"type": "BertNormalizer", "lowercase": True}, {"type": "Precompiled", "precompiled_charsmap": charsmap},
                   {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
                   {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, {"type": "StripAccents"}, {"type": "Strip"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}]
    pres = [None, {"type": "ByteLevel", "add_prefix_space": True}, {"type": "BertPreTokenizer"}, {"type": "Metaspace", "prepend_scheme": "first", "split": False},
            {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "add_prefix_space": True}]},
            {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False}]},
            {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\p{N}{1,2}|\\s+(?!\\S)"}, "behavior": "Isolated"}, {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False}]}]
    vocab = {w: i for i, w in enumerate(words)}
    kinds = [{"type": "BPE", "vocab": vocab, "merges": ["a b", ["\u2581", "ab"]], "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True},
             {"type": "Unigram", "vocab": [[w, -float(i)] for i, w in enumerate(words)], "unk_id": 0},
             {"type": "WordPiece", "vocab": vocab, "unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}]
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    post = {"type": "TemplateProcessing", "single": single, "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    config = {"bos_token": "<s>", "pad_token": {"content": "<unk>"}, "chat_template": "{{ messages }}"}
    for model in kinds:
        for pre in pres:
            for normalizer in normalizers:
                yield json.dumps({"added_tokens": added, "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post, "model": model, **config}).encode()
    bert = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1]}
    posts = [bert, dict(bert, type="RobertaProcessing", trim_offsets=True), {"type": "ByteLevel"}, {"type": "Sequence", "processors": [{"type": "ByteLevel"}, post]},
             {"type": "TemplateProcessing", "single": single + single[:1], "special_tokens": post["special_tokens"]}]
    patterns = ["'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", "(?i:a|b)(?<x>c)\\k<x>|(?=.)\\X", "[", "(a*)*b"]
    for more in posts:
        yield json.dumps({"pre_tokenizer": pres[1], "post_processor": more, "model": kinds[0], **config}).encode()
    for pattern in patterns:
        for behavior, invert in (("Isolated", False), ("Removed", True)):
            split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}
            yield json.dumps({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, {"type": "ByteLevel", "use_regex": False, "add_prefix_space": False}]},
                              "model": kinds[0] | {"vocab": vocab | {"a\0": 14}}}).encode()
    yield json.dumps({"pre_tokenizer": pres[1], "model": kinds[0] | {"vocab": {"a": 0, "b": 70000}}}).encode()
    text = "Hello  world's 12345 \u00e9e\u0301\n\n\t<s> \u4f60\u597d \U0001f600 aaaaaaaa abab the".encode() + b"\xff\xc3"
    for choice in range(32):
        yield bytes([choice]) + text
    for template in (
            "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nX<|im_end|>\n' }}{% endif %}"
            "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
            "{%- if tools %}\n    {{- tool | tojson }}\n{%- elif not (a or 'tool_calls' in message) and b %}x{# y #}\n{%- else %}\n{%- endif %}{{ \"it's\" }}",
            "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('x') }}{% endif %}"
            "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
            "{{ message['content'] + eos_token}}{% else %}{{ raise_exception('y') }}{% endif %}{% endfor %}", *chat_templates()):
        yield b"\x80" + template.encode()
        yield b"\xe0" + template.encode() + b"\0 said "


# A colour JPEG and a grey, progressive one of 9 x 5 pixels.
JPEGS = [(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBkeFxlZ2P/2wBDARESEhgVGC8aGi9j"
    "QjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2P/wAARCAAFAAkDASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAAAAMF/8QAHxAAAQQB"
    "BQEAAAAAAAAAAAAAAQACAwQFERYxVaPS/8QAFQEBAQAAAAAAAAAAAAAAAAAAAAL/xAAZEQEAAgMAAAAAAAAAAAAAAAABABJBccH/2gAMAwEAAhEDEQA/AKYevHRxdi2xoc6CF0gB4JA1"
    "WNuTN9h4R/KIgt012Tif/9k="
), (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBkeFxlZ2P/wgALCAAFAAkBAREA/8QA"
    "FAABAAAAAAAAAAAAAAAAAAAABP/aAAgBAQAAAAEiv//EABgQAAIDAAAAAAAAAAAAAAAAAAABAgMT/9oACAEBAAEFAoVozR//xAAUEAEAAAAAAAAAAAAAAAAAAAAQ/9oACAEBAAY/Aj//"
    "xAAUEAEAAAAAAAAAAAAAAAAAAAAQ/9oACAEBAAE/IT//2gAIAQEAAAAQ/wD/xAAYEAACAwAAAAAAAAAAAAAAAAAAESHR8P/aAAgBAQABPxCJRhH/2Q=="
)]


def png_file(width, height, depth, colour, rows, extra=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def npy_file(dictionary, content, version=1):
    head = dictionary.encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(head)) + head + content


def data():
    rng = random.Random(4)
    for kind, size in ((8, 1), (9, 1), (0x0B, 2), (0x0C, 4), (0x0D, 4), (0x0E, 8)):
        yield b"\0" + bytes([0, 0, kind, 2]) + struct.pack(">II", 2, 3) + rng.randbytes(6 * size)
    yield b"\0" + bytes([0, 0, 8, 3]) + b"\xff" * 12
    for kind, size in (("|u1", 1), ("|b1", 1), ("<i2", 2), ("<i8", 8), ("<f2", 2), ("<f4", 4), ("<f8", 8), (">f4", 4)):
        content = bytes(6 * size) if "i8" in kind else rng.randbytes(6 * size)
        yield b"\1" + npy_file("{'descr': '%s', 'fortran_order': False, 'shape': (2, 3), }\n" % kind, content, 1 + size % 3)
    yield b"\1" + npy_file("{'descr': '<f4', 'fortran_order': True, 'shape': (1,), }", bytes(4))
    yield b"\1" + npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", bytes(4))
    yield b"\2" + bytes(3073) + b"\x09" + bytes(3072)
    yield b"\x0a" + bytes(3074)
    yield b"\2" + b"\xff" * 3073
    for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        for depth in (8, 16):
            yield b"\3" + png_file(3, 2, depth, colour, b"".join(b"\0" + rng.randbytes(3 * channels * depth // 8) for _ in range(2)))
    yield b"\3" + png_file(100000, 100000, 8, 2, bytes(10))
    yield b"\3" + png_file(3, 2, 8, 2, bytes(5))
    for jpeg in JPEGS:
        jpeg = base64.b64decode(jpeg)
        yield b"\3" + jpeg
        yield b"\3" + jpeg[:-40]
    yield b"\3\xff\xd8\xff"
    for text in ("a,b,c\r\n1,2,3\n", 'x,"quoted, ""twice""\nline",\n,,\n', "a\n\n\"open", "1,2\n3\n", "a\0b", "\r\n,"):
        yield b"\4" + text.encode()
        yield b"\5" + text.replace(",", "\t").encode()
    for text in ('{"a": 1}\n[2, "x"]\n\n"s"\n', '{"a": }\n', "[[[[", "  \r\n1"):
        yield b"\6" + text.encode()
    for text in (b"  Two   lines\n\tof one.\r\n\n  Next.\n", b"+--+\n|a|\n+--+\n", b"caf\xc3\xa9 \xff\xed\xa0\x80 \xf0\x9f\x98\x80 \xc0\x80", b""):
        yield b"\7" + text


# ---- sound and Y4M ----

def wav_file(codec, bits, channels, content, extra=b"", rate=8000, names=b"abc"):
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", codec, channels, rate, rate * block, block, bits)
    chunks = b"".join(name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for name, body in ((b"fmt ", fmt + extra), (b"LIST", names), (b"data", content)))
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


# A FLAC of 64 samples, as ffmpeg 5.1 writes it, without what is not needed.
FLAC = base64.b64decode(
    "ZkxhQ4AAACICQAJAAABoAABoAfQA8AAAAEC24VnVAqsjLcnkOVkm3BQ9//hkCAA/Xk0+if2oOH2oAACWfH+fBKo0p/rKnfZ2JSJK0wHeYXhIEYFrM1Fzi3jv"
    "eYXhIEYFrM1Fzi3jveYXhIEYFrM1Fzi3jveYXhIEYFrM1Fzi3jveYXhIEYFrM1Fzi3jveYXgJdE=")


def media():
    rng = random.Random(7)
    for flag in (b"\0", b"\2"):
        for codec, bits, channels in ((1, 16, 1), (1, 8, 2), (1, 24, 2), (3, 32, 1), (3, 64, 2), (6, 8, 1), (7, 8, 1)):
            content = struct.pack("<6d", *(k / 8 for k in range(6))) if bits == 64 else struct.pack("<12f", *(k / 16 for k in range(12))) if bits == 32 else rng.randbytes(48)
            yield flag + wav_file(codec, bits, channels, content)
        yield flag + wav_file(0xFFFE, 16, 2, rng.randbytes(40), struct.pack("<HHI", 22, 16, 3) + bytes.fromhex("0100000000001000800000aa00389b71"))
        yield flag + wav_file(17, 4, 1, rng.randbytes(256), struct.pack("<HH", 2, 505))
        yield flag + wav_file(1, 16, 1, rng.randbytes(40))[:-7]
        yield flag + wav_file(1, 16, 1, rng.randbytes(40), names=b"adtlabcd\xf8\xff\xff\xff" + bytes(8))  # a length that is -8 leads back
        yield flag + wav_file(1, 16, 1, rng.randbytes(40)).replace(struct.pack("<I", 40), b"\xff" * 4)
    yield b"\0" + FLAC
    yield b"\0" + FLAC[:42]
    yield b"\0" + FLAC[:-5]
    yield b"\0" + FLAC[:60] + bytes([FLAC[60] ^ 4]) + FLAC[61:]
    for head, size in (("W4 H2 F25:1 Ip A0:0 C420jpeg", 12), ("W3 H3 C420mpeg2 XCOLORRANGE=FULL", 17), ("W3 H2 C422", 14), ("H2 W3 C444", 18), ("W3 H2 Cmono It", 6)):
        yield b"\1YUV4MPEG2 " + head.encode() + b"\n" + b"".join(b"FRAME\n" + rng.randbytes(size) for _ in range(2))
    yield b"\1YUV4MPEG2 W3 H2 Cmono\nFRAME Ip\nabcdefFRAME\nabc"
    yield b"\1YUV4MPEG2 W99999 H99999 C420p10\n"


# ---- checkpoints ----

def edit(offset, content):
    return struct.pack("<HB", offset, len(content) - 1) + content


def checkpoint():
    yield b"\1"
    for flag in (b"\0", b"\1"):
        for offset in list(range(0, 128, 8)) + [200, 400, 1000, 2000]:
            yield flag + edit(offset, b"\xff" * 8)
            yield flag + edit(offset, b"\1")
        for end in (0, 31, 32, 40, 56, 500, 40000):
            yield flag + struct.pack("<HB", end, 128)
    yield b"\1" + edit(32, struct.pack("<Q", 3)) + edit(56, struct.pack("<Q", 1 << 63))


# ---- cards ----

def card():
    texts = [path.read_text() for path in sorted((pathlib.Path(__file__).parents[1] / "recipes").glob("*/*.yaml"))]
    for text in texts:
        yield b"\0" + text.encode()
        yield b"\1" + text.encode()
        yield b"\1" + text.encode()[:len(text) // 2]
    claims = ("a.x == 1 or (b.x - a.x) / std(a.x) > 2", "min(a.x) < most(1, b.x, 2) and max(b.x) != least(a.x, 3)", "(" * 200 + "a.x" + ")" * 200 + " > 0", "a.x >", "1e400 < a.x", "c.x > 0")
    head = texts[-1][:texts[-1].index("claims:")]
    for claim in claims:
        yield b"\0" + (head + "claims:\n  - '%s'\n" % claim).encode()
    yield b"\0a: &x [*x, *x]\nb: *x\n"
    yield b"\0" + b"- " * 500 + b"x\n"
    yield b"\0id: {{{{[[[[\n"
    yield b"\0%YAML 9.9\n--- !!binary |\n  =\n"


TARGETS = {f.__name__: f for f in (card, checkpoint, circuit, config, data, folder, gguf, media, pith, rans, safetensors, tokenizer)}


def write(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, seed in enumerate(TARGETS[name]()):
        path = folder / ("%03d" % i)
        path.write_bytes(seed)
        paths.append(path)
    return paths


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "--replay":
        with tempfile.TemporaryDirectory() as folder:
            paths = write(pathlib.Path(folder), sys.argv[3])
            return subprocess.run([sys.argv[2]] + paths).returncode
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    for name in TARGETS:
        write(pathlib.Path(sys.argv[1]) / name, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
