"""The shared library exports exactly the functions that pith.h declares.

usage: check_symbols.py LIBRARY HEADER
"""
import re
import subprocess
import sys


def main():
    library, header = sys.argv[1:]
    with open(header, encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    declared = set(re.findall(r"PITH_API[^;(]*?\b(pith_\w+)\s*\(", text))
    lines = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = {line.split()[-1].split("@")[0] for line in lines}
    exported = {s for s in symbols if not s.startswith(("__", "_init", "_fini", "_edata", "_end"))}
    for name in sorted(declared - exported):
        print(f"{name} is declared in pith.h and not exported")
    for name in sorted(exported - declared):
        print(f"{name} is exported and not declared in pith.h")
    print(f"{len(declared)} functions declared, {len(exported)} exported")
    return 0 if declared and declared == exported else 1


if __name__ == "__main__":
    sys.exit(main())
