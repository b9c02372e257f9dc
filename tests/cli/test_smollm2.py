"""The program on SmolLM2: what a compressed file costs in quality and in memory.

usage: test_smollm2.py PITH      (the model: PITH_TEST_MODEL; exit 77 without it)
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

MODEL = os.environ.get("PITH_TEST_MODEL")
CACHE_PER_TOKEN = 2 * 30 * 3 * 64 * 2  # keys and values of 30 layers, 3 heads of 64, in f16


def pith(*args):
    result = subprocess.run([sys.argv[1], *map(str, args), "--quiet", "--no-progress"], capture_output=True, text=True)
    assert result.returncode == 0, f"pith {args}: {result.stderr}"
    return result.stdout


def peak_of_run(model):
    """Bytes that `pith run` held at most."""
    child = subprocess.Popen([sys.argv[1], "run", model, "-p", "What is a cat?", "-n", "24", "--temperature", "0", "--quiet", "--no-progress"], stdout=subprocess.DEVNULL,
                             env=os.environ | {"MALLOC_PERTURB_": "0"})  # which makes malloc touch what nobody uses
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0
    return usage.ru_maxrss * 1024


def main():
    if not MODEL:
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        whole, cut, text = (pathlib.Path(folder) / name for name in ("whole.pith", "cut.pith", "text.txt"))
        words = re.sub(r"\s+", " ", pathlib.Path(__file__).parents[2].joinpath("README.md").read_text())
        text.write_text(words * 2)
        made = json.loads(pith("compress", MODEL, "-o", whole, "--no-measure", "--json"))
        assert made["exact_bytes"] == made["file_bytes"] < made["source_bytes"], made
        evaluate = lambda path, *more: json.loads(pith("eval", path, "--text", text, "-c", 256, "-n", 4, "--no-speed", "--json", *more))
        # limits with room for another text than the one they are published for
        for size, limit in (("60MB", 0.4), ("70MB", 0.2), ("80MB", 0.1), ("93MB", 0.02)):
            pith("cut", whole, "--size", size, "-o", cut)
            assert cut.stat().st_size <= int(size[:-2]) * 1_000_000
            r = evaluate(cut, "--reference", MODEL)
            peak, held = peak_of_run(cut), r["ram_bytes"] + 64 * CACHE_PER_TOKEN
            print(f"{size}: KL {r['kl_mean']:.4f}, holds {held / 1e6:.1f} MB, peak {peak / 1e6:.1f} MB = {peak / held:.2f}x")
            assert r["kl_mean"] < limit, (size, r["kl_mean"])
            assert peak < 1.3 * held
        # the whole file is the source: what its weights give is the same to the bit
        a, b = evaluate(whole), evaluate(MODEL)
        assert a["perplexity"] == b["perplexity"], (a["perplexity"], b["perplexity"])


main()
