"""What benchmarks beside other programs share: two programs that answer commands, and how figures are spread."""
import json
import pathlib
import statistics
import subprocess
import sys


class Failed(Exception):
    pass


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


class Side:
    """A program that answers commands, each with a line of JSON."""

    def __init__(self, *command):
        self.name = pathlib.Path(command[0]).name
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *command):
        try:
            self.process.stdin.write("\t".join(str(c) for c in command) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(f"{self.name} ended at: {' '.join(str(c) for c in command)}")
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.stdin.close()
        if error[0]:
            self.process.kill()
        self.process.wait()


def spread(values):
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high, "min": min(values), "max": max(values)}


def ratio_text(r):
    return f"{r['median']:.2f}x ({r['low']:.2f}-{r['high']:.2f})"
