"""zipnn's side of bench/lossless: commands on lines, fields apart by tabs, each answered by a line of JSON.

    load PATH TYPE ROW   raw values of TYPE (F32, F16, BF16)
    round                code and decode all of it on one thread
"""
import json
import sys
import time
import types


class StandIn(types.ModuleType):
    """zipnn imports torch and safetensors for tensors; here it gets bytes, and needs their names alone."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{self.__name__}.{name}"


for module in ("torch", "safetensors", "safetensors.torch", "safetensors.numpy", "transformers"):
    sys.modules[module] = StandIn(module)
sys.modules["torch"].jit = types.SimpleNamespace(script=lambda f: f)
sys.modules["torch"].Tensor = type("Tensor", (), {})

from zipnn import ZipNN  # noqa: E402

NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
data = packer = None
for line in sys.stdin:
    command, *fields = line.rstrip("\n").split("\t")
    if command == "load":
        with open(fields[0], "rb") as file:
            data = file.read()
        packer = ZipNN(input_format="byte", bytearray_dtype=NAMES[fields[1]], threads=1)
        answer = {"bytes": len(data)}
    else:
        raw = bytearray(data)  # which it changes
        start = time.perf_counter()
        coded = packer.compress(raw)
        middle = time.perf_counter()
        back = packer.decompress(coded)
        end = time.perf_counter()
        if back != data:
            sys.exit("zipnn gives something else back")
        answer = {"bytes": len(data), "coded": len(coded), "encode_s": middle - start, "decode_s": end - middle}
    print(json.dumps(answer), flush=True)
