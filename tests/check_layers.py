"""Holds the order of the layers: a file in src/<layer> includes only its own layer and lower ones.

usage: check_layers.py SOURCE_ROOT      (also: check_layers.py --self-test)
"""
import pathlib
import re
import sys

LAYERS = ["base", "tensor", "grad", "stage", "format", "text", "data", "stream", "mpi", "model", "train", "eval", "recipe", "serve", "api", "cli"]
PUBLIC = {"pith.h", "config.h"}          # may be included from anywhere
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def faults(layer, text):
    """Each include of `text`, a file of `layer`, that the order forbids, with the reason."""
    for name in INCLUDE.findall(text):
        first = name.split("/")[0]
        if name in PUBLIC:
            continue
        if "/" not in name or first not in LAYERS:
            yield name, 'is not written as "<layer>/..."'
        elif LAYERS.index(first) > LAYERS.index(layer):
            yield name, f"is above {layer}"


def self_test():
    assert not list(faults("tensor", '#include "base/base.h"\n#include "pith.h"\n#include <stdio.h>\n'))
    assert [f[0] for f in faults("base", '#include "tensor/tensor.h"\n')] == ["tensor/tensor.h"]
    assert [f[0] for f in faults("cli", '#  include "helper.h"\n')] == ["helper.h"]


def main():
    self_test()
    root = pathlib.Path(sys.argv[1])
    n_files, n_faults = 0, 0
    for path in sorted((root / "src").rglob("*")):
        if path.suffix not in (".c", ".h", ".in"):
            continue
        layer = path.relative_to(root / "src").parts[0]
        if layer not in LAYERS:
            print(f"{path}: src/{layer} is not a layer; add it to tests/check_layers.py in its place")
            n_faults += 1
            continue
        n_files += 1
        for name, why in faults(layer, path.read_text(encoding="utf-8")):
            print(f'{path.relative_to(root)}: #include "{name}" {why}')
            n_faults += 1
    print(f"{n_files} files, {n_faults} faults")
    return 1 if n_faults or not n_files else 0


if __name__ == "__main__":
    sys.exit(main())
