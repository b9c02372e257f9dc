#!/usr/bin/env python3
"""Token ids against the PyPI package `tokenizers`.

    oracle_test.py TOKENIZE_FILE     with PITH_TEST_MODEL naming SmolLM2's GGUF file; skipped (77) without it

The text is made here, over 2 MB: Python's and Perl's own sources and documentation, licences and manual pages of the
system, runs of characters of many scripts, emoji, and random bytes read as UTF-8 with replacement (`tokenizers` takes
str).  Vocabularies: SmolLM2's with the four pre-tokenizers and with two patterns by PCRE2; unigram, SentencePiece-like
BPE and WordPiece, trained here.
"""
import glob
import gzip
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if not os.environ.get("PITH_TEST_MODEL"):
    print("skipped: PITH_TEST_MODEL is not set")
    sys.exit(77)

import numpy as np
from gguf import GGUFReader
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers as N, pre_tokenizers as P, processors, trainers

GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

SCRIPTS = [(0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x2AF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x58F),
           (0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x74F), (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF), (0xE00, 0xE7F),
           (0xE80, 0xEFF), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x137F),
           (0x1680, 0x169F), (0x1780, 0x17FF), (0x1800, 0x18AF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F),
           (0x2070, 0x209F), (0x20A0, 0x20CF), (0x2100, 0x218F), (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2460, 0x24FF),
           (0x2580, 0x259F), (0x2600, 0x27BF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
           (0xA000, 0xA48C), (0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE00, 0xFE0F),
           (0xFF00, 0xFFEF), (0x10000, 0x1007F), (0x1D400, 0x1D7FF), (0x1F300, 0x1F6FF), (0x1F900, 0x1F9FF),
           (0x20000, 0x200FF), (0x00, 0x1F), (0x7F, 0x9F)]
# Marks whose combining class `tokenizers` does not know (its normalization stands on Unicode 9): it leaves them where
# they are, Unicode puts U+0334, of class 1, before them.
NEWER_MARKS = {c for c in range(0x300, 0x20000) if unicodedata.combining(chr(c)) > 1 and N.NFD().normalize_str("a" + chr(c) + "\u0334")[1] != "\u0334"}
EMOJI = ["👩‍👩‍👧‍👦", "🇩🇪", "👍🏽", "❤️", "🏳️‍🌈", "1️⃣", "😀", "🫠"]
GLUE = [" ", "  ", "   ", "\n", "\n\n", "\t", " \n ", "\r\n", "\u00a0", "\u3000", "'s", "'S", "'re", "'LL", "'ſ", "123", "4567890",
        "٣٤", "½", "...", "!?", '"', "_", "-", "—", "''", "", "\u200d", "<|im_end|>", "<|endoftext|>", "e\u0301", "Å", "ﬁ"]


def read(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as f:
        return f.read(200000)


def mixed_text(size, seed=7):
    """Texts of 1 to 3 kB, `size` bytes in all."""
    rnd = random.Random(seed)
    pools = [[chr(c) for c in range(a, b + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs") and c not in NEWER_MARKS] for a, b in SCRIPTS]
    files = sorted(glob.glob(os.path.dirname(os.__file__) + "/*.py"))[:120]
    for pattern, most in (("/usr/share/common-licenses/*", 20), ("/usr/share/perl/*/pod/*.pod", 30), ("/usr/share/perl/*/*.pm", 30),
                          ("/usr/share/man/*/man1/*.gz", 60), ("/usr/share/doc/*/README*", 40), ("/usr/share/i18n/locales/*", 40)):
        files += [f for f in sorted(glob.glob(pattern)) if os.path.isfile(f)][:most]
    cache, texts, total = {}, [], 0
    while total < size:
        k = rnd.random()
        if k < 0.5:
            f = rnd.choice(files)
            if f not in cache:
                cache[f] = read(f)
            at = rnd.randrange(max(1, len(cache[f]) - 3000))
            t = cache[f][at:at + 3000].decode("utf8", "replace")
        elif k < 0.75:
            t = "".join("".join(rnd.choices(rnd.choice(pools), k=rnd.randint(1, 8))) + rnd.choice(GLUE) * rnd.randint(1, 2) for _ in range(rnd.randint(1, 150)))
        elif k < 0.85:
            t = "".join(rnd.choices(EMOJI + GLUE + ["a", "B"], k=300))
        elif k < 0.95:
            p = rnd.choice(pools)
            t = "".join(rnd.choices(p + [" "] * (len(p) // 6 + 1), k=400))
        else:
            t = bytes(rnd.randrange(256) for _ in range(500)).decode("utf8", "replace")
        texts.append(t)
        total += len(t.encode())
    return texts


def write_texts(path, texts):
    with open(path, "wb") as f:
        for t in texts:
            b = t.encode()
            f.write(struct.pack("<I", len(b)) + b)


class Oracle:
    def __init__(self, program, folder):
        self.program, self.folder, self.failed, self.bytes = program, folder, 0, {}

    def compare(self, name, tok, texts, vocabulary=None):
        """`tok` in memory against pith on its tokenizer.json, or on `vocabulary`."""
        path = vocabulary or os.path.join(self.folder, name + ".json")
        if not vocabulary:
            tok.save(path)
        source, out = os.path.join(self.folder, "texts"), os.path.join(self.folder, "ids")
        write_texts(source, texts)
        run = subprocess.run([self.program, path, source, out], capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"{name}: {self.program} ended with {run.returncode}: {run.stderr[-1000:]}")
        ids = np.fromfile(out, dtype=np.int32).tolist()
        at = differing = n_ids = 0
        for t in texts:
            got = ids[at + 1:at + 1 + ids[at]]
            at += 1 + ids[at]
            want = tok.encode(t).ids
            n_ids += len(want)
            if got != want:
                differing += 1
                if differing == 1:
                    i = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
                    show = lambda x: [tok.id_to_token(y) for y in x[max(0, i - 3):i + 5]]
                    print(f"  {name}: first difference at id {i} of {len(want)}: tokenizers {show(want)}, pith {show(got)}")
        assert at == len(ids)
        n_bytes = sum(len(t.encode()) for t in texts)
        print(f"{name}: {len(texts)} texts, {n_bytes} bytes, {n_ids} ids, {differing} texts differ", flush=True)
        self.failed += differing > 0


def smollm2(model):
    """SmolLM2's vocabulary, merges and special tokens from its GGUF file."""
    fields = GGUFReader(model).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    types = fields["tokenizer.ggml.token_type"].contents()
    special = [AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == 3]

    def make(pre, normalizer=None, ignore_merges=False):
        tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, ignore_merges=ignore_merges))
        tok.pre_tokenizer = pre
        if normalizer:
            tok.normalizer = normalizer
        tok.add_special_tokens(special)
        return tok
    split = lambda p: P.Sequence([P.Split(Regex(p), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)])
    level = P.ByteLevel(add_prefix_space=False)
    return {"smollm": make(P.Sequence([P.Digits(individual_digits=True), level])), "gpt2": make(level),
            "gpt2-prefix": make(P.ByteLevel(add_prefix_space=True)), "llama3": make(split(LLAMA3), ignore_merges=True),
            "qwen2": make(split(QWEN2), N.NFC()), "gpt4o": make(split(GPT4O)), "pattern": make(split(r"\p{N}{1,2}|[A-Z][a-z]+|\s"))}


def charsmap(pairs):
    """SentencePiece's precompiled map: a double array (units as Darts-clone lays them out), then the strings."""
    blob, root = b"", {}
    for key, value in sorted(pairs.items()):
        node = root
        for b in key.encode():
            node = node.setdefault(b, {})
        node[None] = len(blob)
        blob += value.encode() + b"\0"
    units, used = {0: 0}, {0}

    def place(at, node):
        labels = [0 if k is None else k for k in node]
        base = 1
        while any((base ^ k) in used for k in labels) or base ^ at >= 1 << 21:
            base += 1
        units[at] = units.get(at, 0) | (base ^ at) << 10 | (None in node) << 8
        used.update(base ^ k for k in labels)
        for k, child in node.items():
            if k is None:
                units[base] = 1 << 31 | child
            else:
                units[base ^ k] = k
        for k, child in node.items():
            if k is not None:
                place(base ^ k, child)
    place(0, root)
    n = (max(units) | 255) + 1
    return struct.pack("<I", n * 4) + struct.pack(f"<{n}I", *(units.get(i, 0) for i in range(n))) + blob


def trained(texts):
    """Small vocabularies of the other kinds."""
    lines = [x for t in texts for x in t.split("\n") if x.strip()]
    out = {}
    tok = Tokenizer(models.Unigram())
    tok.pre_tokenizer = P.Metaspace()
    tok.train_from_iterator([x for x in lines if max(x) < "\u0500"], trainers.UnigramTrainer(vocab_size=4000, unk_token="<unk>", special_tokens=["<unk>", "<s>", "</s>"], show_progress=False))
    learnt = json.loads(tok.to_str())["model"]["vocab"]
    pieces = [(p, float(np.float32(s))) for p, s in learnt]  # SentencePiece's scores are f32
    table = {"ﬁ": "fi", "½": "1⁄2", "\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "Å": "Å", "e\u0301": "é", "Ａ": "A", "①": "1", "…": "...", "\u200d": ""}

    def unigram(normalizer, pre, fallback=False):
        vocab = pieces + ([(f"<0x{b:02X}>", 0.0) for b in range(256)] if fallback else [])
        t = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=fallback))
        t.normalizer, t.pre_tokenizer = normalizer, pre
        t.add_special_tokens(["<unk>", "<s>", "</s>", AddedToken("<mask>", lstrip=True, special=True)])
        t.add_tokens([AddedToken("Foo Bar", single_word=True), AddedToken("Zürich", normalized=True)])
        t.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", t.token_to_id("</s>"))])
        return t
    compiled = charsmap(table)
    out["unigram-words"] = unigram(N.Precompiled(compiled), P.Sequence([P.WhitespaceSplit(), P.Metaspace()]))
    out["unigram-split"] = unigram(N.Sequence([N.Precompiled(compiled), N.Strip(left=False, right=True), N.Replace(Regex(" {2,}"), "▁")]), P.Metaspace())
    out["unigram-bytes"] = unigram(N.Sequence([N.NFKC(), N.Replace("``", '"')]), P.Metaspace(prepend_scheme="first", split=False), True)
    out["unigram-marks"] = unigram(N.Sequence([N.NFKD(), N.StripAccents()]), P.Metaspace(prepend_scheme="always"))

    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    tok.pre_tokenizer = P.Metaspace()
    tok.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=5000, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)],
                                                       limit_alphabet=600, show_progress=False))
    bpe = json.loads(tok.to_str())["model"]

    def spm(normalizer, pre, fallback=True):
        t = Tokenizer(models.BPE(vocab=bpe["vocab"], merges=[tuple(m) for m in bpe["merges"]], unk_token="<unk>", fuse_unk=fallback, byte_fallback=fallback))
        if normalizer:
            t.normalizer = normalizer
        if pre:
            t.pre_tokenizer = pre
        t.add_special_tokens(["<unk>", "<s>", "</s>"])
        t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        return t
    out["spm-legacy"] = spm(N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None)
    out["spm-first"] = spm(None, P.Metaspace(prepend_scheme="first", split=False))
    out["spm-split"] = spm(None, P.Metaspace(prepend_scheme="always", split=True))
    out["spm-unknown"] = spm(N.Lowercase(), P.Metaspace(prepend_scheme="never"), False)

    for lower in (True, False):
        tok = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
        tok.normalizer = N.BertNormalizer(lowercase=lower)
        tok.pre_tokenizer = P.BertPreTokenizer()
        tok.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=5000, limit_alphabet=800, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
                                                                 show_progress=False))
        tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
        out["wordpiece-lower" if lower else "wordpiece-cased"] = tok
    return out


def main():
    model, program = os.environ["PITH_TEST_MODEL"], sys.argv[1]
    texts = mixed_text(2_200_000)
    some = texts[:250]
    with tempfile.TemporaryDirectory() as folder:
        oracle = Oracle(program, folder)
        for name, tok in smollm2(model).items():
            oracle.compare(name, tok, texts if name in ("smollm", "gpt2", "llama3", "qwen2") else some)
            if name == "smollm":
                oracle.compare("smollm-gguf", tok, texts[-200:], model)
        for name, tok in trained(texts[-150:]).items():
            oracle.compare(name, tok, some)
        # any characters at all for the classes: every assigned one stands once between letters
        every = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co") and c not in NEWER_MARKS]
        lines = ["a" + "a ".join(every[i:i + 300]) + "1" for i in range(0, len(every), 300)]
        oracle.compare("every-character-smollm", smollm2(model)["smollm"], lines)
        oracle.compare("every-character-llama3", smollm2(model)["llama3"], lines)
    sys.exit(oracle.failed > 0)


if __name__ == "__main__":
    main()
