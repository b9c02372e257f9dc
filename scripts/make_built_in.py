"""Writes the C table of built-in cards and procedures.

usage: make_built_in.py OUT.c --procedures FILE.c ... --cards FILE.yaml ...

A procedure is found by its file's name: src/recipe/represent/simvq.c has pith_procedure_simvq in it.  Its code is the
start of the file's SHA-256: a bed trained by other code is another bed.
"""
import argparse
import hashlib
import pathlib


def literal(text):
    """`text` as C string literals, one a line."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
    return "\n".join(f'        "{line}\\n"' for line in quoted.removesuffix("\n").split("\n"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--procedures", nargs="*", type=pathlib.Path, default=[])
    parser.add_argument("--cards", nargs="*", type=pathlib.Path, default=[])
    args = parser.parse_args()
    lines = ["/* Made by scripts/make_built_in.py. */", '#include "recipe/card.h"', ""]
    lines += [f"extern const pith_procedure pith_procedure_{path.stem};" for path in args.procedures]
    lines += ["", "const pith_procedure_entry pith_procedures[] = {"]
    for path in sorted(args.procedures, key=lambda path: path.stem):
        code = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        lines.append(f"    {{&pith_procedure_{path.stem}, 0x{code}u}},")
    lines += ["    {0},", "};", "", "const pith_card_source pith_card_sources[] = {"]
    for path in sorted(args.cards, key=lambda path: (path.parent.name, path.stem)):
        text = path.read_text(encoding="utf-8")
        lines.append(f'    {{"{path.parent.name}", "{path.stem}",\n{literal(text)},\n        {len(text.encode())}}},')
    lines += ["    {0},", "};", ""]
    args.out.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
