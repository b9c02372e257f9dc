#!/usr/bin/env python3
"""Write src/text/unicode_ranges.h: the character classes that tokenizers ask for, as runs of code points.

Needs the PyPI package unicodedata2 at 16.0.0 (categories of Unicode 16, the version that Oniguruma and so
the PyPI package `tokenizers` uses in patterns) and perl (ages of characters).  BERT's normaliser in `tokenizers`
stands on Unicode 8 tables, and its StripAccents on Unicode 9, so these classes hold characters of that age only;
the few that changed category since are listed by hand.      python3 scripts/make_unicode_ranges.py > src/text/unicode_ranges.h
"""
import subprocess
import unicodedata2 as u

assert u.unidata_version == "16.0.0", u.unidata_version
N = 0x110000
AGES = subprocess.run(["perl", "-e", r'for (0..0x10ffff) { print $_ >= 0xd800 && $_ < 0xe000 ? 0 : chr($_) =~ /\p{Present_In: 8.0}/ ? 1 '
                       r': chr($_) =~ /\p{Present_In: 9.0}/ ? 2 : 0 }'], capture_output=True, check=True, text=True).stdout
# Characters whose category is another one today.
OLD_PUNCT = {0x166D, 0x111C9}
OLD_MN, NEW_MN = {0x1734, 0x1171E}, {0x1885, 0x1886, 0xA9BD, 0x111C9}
SPACE = [(0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
         (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)]  # White_Space
# What may change or compose under NFC: a combining class, not equal to its NFC, or second in a composition.
seconds = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
for c in range(N):
    d = u.decomposition(chr(c)) if not 0xD800 <= c < 0xE000 else ""
    if d and not d.startswith("<"):
        parts = d.split()
        if len(parts) == 2 and u.normalize("NFC", chr(c)) == chr(c):
            seconds.add(int(parts[1], 16))


def classes(c):
    if 0xD800 <= c < 0xE000:
        return 0
    ch = chr(c)
    cat = u.category(ch)
    old = AGES[c] == "1"
    k = 0
    if cat[0] == "L": k |= 1
    if cat[0] == "N": k |= 2
    if any(a <= c <= b for a, b in SPACE): k |= 4
    if (cat[0] == "P" and old) or c in OLD_PUNCT or (c < 128 and cat[0] in "PS"): k |= 8
    if (cat == "Mn" and old and c not in NEW_MN) or c in OLD_MN: k |= 16
    if cat in ("Cc", "Cf", "Co") and old and c not in (9, 10, 13): k |= 32
    if (cat[0] == "M" and AGES[c] != "0" and c != 0x111C9) or c in (0x1CF2, 0x1CF3): k |= 64
    if u.combining(ch) or c in seconds or u.normalize("NFC", ch) != ch: k |= 128
    return k


runs, last = [], -1
for c in range(N):
    k = classes(c)
    if k != last:
        runs.append((c, k))
        last = k
print("/* Made by scripts/make_unicode_ranges.py from the Unicode Character Database 16.0; do not edit.")
print(" * {first code point of a run, its class bits}: see src/text/unicode.h for the bits. */")
print("static const struct { uint32_t first; uint8_t bits; } unicode_runs[] = {")
line = "   "
for c, k in runs:
    item = " {0x%x,%d}," % (c, k)
    if len(line) + len(item) > 118:
        print(line)
        line = "   "
    line += item
print(line)
print("};")
