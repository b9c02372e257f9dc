#!/usr/bin/env python3
"""Streams of the entropy coder by a second writer, made from the comment in src/stage/code/rans.h alone.
Prints rans_golden.h:  python3 rans_oracle.py > rans_golden.h;  --check FILE: is that what FILE holds?"""
import sys

LANES = 32


def code_probability(c):
    return c * c if c <= 128 else 32768 - (256 - c) ** 2


class Symbols:
    """freq: {symbol: frequency}, sum 4096"""
    bits = 12

    def __init__(self, freq):
        self.freq = freq
        self.slots = {s: [] for s in freq}  # rank -> slot
        if max(freq) > 15:
            start = 0
            for s in sorted(freq):
                self.slots[s] = list(range(start, start + freq[s]))
                start += freq[s]
            return
        rest = [freq.get(s, 0) for s in range(16)]
        todo, own, other = set(range(16)), [0] * 16, [0] * 16
        while todo:
            lo = min(todo, key=lambda s: (rest[s], s))
            hi = min(todo, key=lambda s: (-rest[s], s))
            own[lo], other[lo] = rest[lo], hi
            rest[hi] -= 256 - own[lo]
            todo.remove(lo)
        for b in range(16):
            if own[b]:
                self.slots[b] += [o * 16 + b for o in range(own[b])]
        for b in range(16):
            if own[b] < 256:
                self.slots[other[b]] += [o * 16 + b for o in range(own[b], 256)]

    def place(self, symbol, _context):
        return self.freq[symbol], self.slots[symbol]

    def to_bytes(self):
        first, last = min(self.freq), max(self.freq)
        bits = []

        def put(value, n):
            bits.extend(value >> i & 1 for i in range(n))
        s = first
        while s < last:
            f = self.freq.get(s, 0)
            if f:
                put(f.bit_length(), 4)
                put(f - (1 << f.bit_length() - 1), f.bit_length() - 1)
                s += 1
            else:
                run = 1
                while run < 16 and s + run not in self.freq:
                    run += 1
                put(0, 4)
                put(run - 1, 4)
                s += run
        bits += [0] * (-len(bits) % 8)
        return bytes([0, first, last]) + bytes(sum(bit << i for i, bit in enumerate(bits[k:k + 8])) for k in range(0, len(bits), 8))


class Contexts:
    """codes: a list of (c0,) for binary or (c0, c1) for ternary, one a context"""
    bits = 15

    def __init__(self, codes):
        self.codes = codes

    def place(self, symbol, context):
        codes = self.codes[context] if context < len(self.codes) else (128,) * len(self.codes[0])
        f0 = code_probability(codes[0])
        freq = [f0, 32768 - f0]
        if len(codes) == 2:
            f0 = min(f0, 32766)
            t = 32768 - f0
            f1 = max(t * code_probability(codes[1]) // 32768, 1)
            freq = [f0, f1, t - f1]
        start = sum(freq[:symbol])
        return freq[symbol], range(start, start + freq[symbol])

    def to_bytes(self):
        return bytes([len(self.codes[0]), len(self.codes) - 1]) + bytes(c for codes in self.codes for c in codes)


def write(segments):
    """segments: [(model, symbols, contexts)]"""
    state, words = [1 << 16] * LANES, []
    for model, symbols, contexts in reversed(segments):
        if isinstance(model, Symbols) and len(model.freq) == 1:
            continue
        for i in range(len(symbols) - 1, -1, -1):
            x = state[i % LANES]
            freq, slots = model.place(symbols[i], contexts[i] if contexts else None)
            if x >= freq << (32 - model.bits):
                words.append(x & 0xffff)
                x >>= 16
            state[i % LANES] = (x // freq << model.bits) + slots[x % freq]
    if not words and state == [1 << 16] * LANES:
        return b''
    return b''.join(x.to_bytes(4, 'little') for x in state) + b''.join(w.to_bytes(2, 'little') for w in reversed(words))


def numbers(seed, n):
    """a small generator that the test has too"""
    x, out = seed, []
    for _ in range(n):
        x = (x * 1664525 + 1013904223) & 0xffffffff
        out.append(x >> 8)
    return out


def pick(weights, u):
    """symbol of the u-th unit"""
    for s, w in weights:
        if u < w:
            return s
        u -= w
    raise ValueError


def main():
    small = Symbols({0: 1, 1: 40, 2: 555, 3: 2000, 4: 1400, 6: 90, 15: 10})
    large = Symbols({3: 1, 4: 2000, 40: 95, 41: 1000, 200: 1000})
    ties = Symbols({0: 300, 1: 100, 2: 500, 3: 500, 4: 100, 5: 500, 6: 2096})
    one = Symbols({9: 4096})
    binary = Contexts([(1,), (40,), (128,), (200,), (255,)])
    ternary = Contexts([(60, 100), (254, 255), (1, 1), (180, 30)])
    segments = []
    for seed, (model, n) in enumerate([(small, 97), (binary, 64), (large, 70), (one, 5), (ternary, 131), (small, 33), (ties, 120)]):
        u, v = numbers(seed + 1, n), numbers(seed + 101, n)
        if isinstance(model, Symbols):
            weights = sorted(model.freq.items())
            segments.append((model, [pick(weights, a % 4096) for a in u], None))
        else:
            contexts = [a % len(model.codes) for a in v]
            segments.append((model, [a % (len(model.codes[0]) + 1) for a in u], contexts))
    lines = ['/* Made by rans_oracle.py: do not edit. */']
    arrays = [('small', small.to_bytes()), ('large', large.to_bytes()), ('ties', ties.to_bytes()), ('one', one.to_bytes()), ('binary', binary.to_bytes()),
              ('ternary', ternary.to_bytes()), ('stream', write(segments))]
    for name, data in arrays:
        lines.append(f'static const uint8_t golden_{name}[{len(data)}] = {{')
        for k in range(0, len(data), 24):
            lines.append('    ' + ', '.join(str(b) for b in data[k:k + 24]) + ',')
        lines.append('};')
    text = '\n'.join(lines) + '\n'
    if len(sys.argv) == 3 and sys.argv[1] == '--check':
        with open(sys.argv[2]) as f:
            if f.read() != text:
                sys.exit(f'{sys.argv[2]} is not what rans_oracle.py makes')
    else:
        sys.stdout.write(text)


main()
