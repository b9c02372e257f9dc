"""What benchmarks beside other programs share: two programs that answer commands, and how figures are spread."""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Failed(Exception):
    pass


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


def common(script):
    """Run functions of scripts/common.sh in the repository's root."""
    if subprocess.run(["bash", "-c", f"set -euo pipefail; source scripts/common.sh; {script}"], cwd=ROOT, stdout=sys.stderr).returncode:
        raise Failed(f"failed: {script}")


def built(folder, *programs):
    """These programs of a build folder; the default one is built first."""
    if folder == ROOT / "build":
        say("building pith (build/)")
        common("setup_build build")
    for program in programs:
        if not (folder / program).is_file():
            raise Failed(f"{folder / program} is not there: build it with ninja -C {folder}")
    return [folder / program for program in programs]


def fetched(venv, requirements, what, options=(), log=None, environment=None):
    """The Python of a virtual environment with these requirements, made where it is not there; log: a file for what pip says."""
    venv, requirements = ROOT / venv, ROOT / "scripts" / requirements
    python, mark = venv / "bin/python", venv / "requirements.txt"
    if python.is_file() and mark.is_file() and mark.read_text() == requirements.read_text():
        return python
    say(f"{what} ({venv.name}/)")
    shutil.rmtree(venv, ignore_errors=True)
    pip = [python, "-m", "pip", "install", *([] if log else ["-q"]), "--disable-pip-version-check", "--no-cache-dir", *options, "-r", requirements]
    with open(log or os.devnull, "w") as file:
        out = {"stdout": file, "stderr": subprocess.STDOUT} if log else {"stdout": sys.stderr}
        for command in ([sys.executable, "-m", "venv", venv], pip):
            if subprocess.run(command, env=environment, **out).returncode:
                raise Failed(f"cannot make {venv.name}/" + (f": see {log}" if log else ""))
    mark.write_text(requirements.read_text())
    return python


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
