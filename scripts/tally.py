"""Count a meson test run: prints "passed failed skipped", then a line for each test that did not pass.

usage: tally.py BUILD_FOLDER
"""
import json
import pathlib
import sys


def main():
    log = pathlib.Path(sys.argv[1]) / "meson-logs/testlog.json"
    results = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    kinds = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    lines = []
    for r in results:
        kind = kinds.get(r["result"], "failed")
        counts[kind] += 1
        if kind != "passed":
            lines.append(f"   {kind}: {r['name']} ({r['result'].lower()}, {r['duration']:.1f} s)")
    print(counts["passed"], counts["failed"], counts["skipped"])
    print("\n".join(lines))


if __name__ == "__main__":
    main()
