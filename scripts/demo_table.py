"""Print the table of ./demo from the files that `pith eval --json` wrote.

usage: demo_table.py MODEL...      (.cache/demo/<name>.json for each)
"""
import json
import pathlib
import sys


def main():
    columns = ["file", "size", "bits/weight", "perplexity", "KL to source", "same top token", "load", "reading", "writing"]
    rows = [columns]
    for name in sys.argv[1:]:
        path = pathlib.Path(name)
        r = json.loads(pathlib.Path(".cache/demo", path.name + ".json").read_text())
        rows.append([path.name, f"{r['file_bytes'] / 1e6:.1f} MB", f"{r['bits_per_weight']:.2f}", f"{r['perplexity']:.3f}", f"{r['kl_mean']:.4f}",
                     f"{100 * r['top1_agreement']:.1f}%", f"{r['load_seconds']:.2f} s", f"{r['prefill_tokens_per_second']:.0f}/s",
                     f"{r['decode_tokens_per_second']:.0f}/s"])
    widths = [max(len(row[c]) for row in rows) for c in range(len(columns))]
    for row in rows:
        print("  ".join(cell.ljust(w) if c == 0 else cell.rjust(w) for c, (cell, w) in enumerate(zip(row, widths))))


if __name__ == "__main__":
    main()
