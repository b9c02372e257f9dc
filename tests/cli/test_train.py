"""pith train from outside: a bed of a card of one's own, its files, its view, and what a kill leaves.

usage: test_train.py PITH [unittest arguments]
"""
import csv
import json
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PITH = os.path.abspath(sys.argv[1])
FOLDER = tempfile.TemporaryDirectory(prefix="pith-train-")
CARD = pathlib.Path(FOLDER.name, "tiny.yaml")
TEXT = """
id: tiny
family: beds
kind: bed
title: A tiny network
line: a test
mechanism: none
stream: weights
data: [factors]
minutes: 0.1
procedure: classifier
settings:
  net: vgg
  net_settings: '{"widths": [4, 8]}'
  images: [factors]
  n_images: 64
  n_test: 32
  evaluations: 4
  flip: true
train:
  optimizer: muon
  schedule: cosine
  rate: 0.02
  warmup: 0.1
  ema: 0.9
  steps: STEPS
  batch: 8
quick:
  train:
    steps: 3
rows:
  bed: the trained network
measures:
  acc: share that is right
  loss: nats
  parameters: values
"""


def write_card(steps, also_train=""):
    CARD.write_text(TEXT.replace("STEPS", str(steps)).replace("  batch: 8\n", f"  batch: 8\n{also_train}"))


def environment(cache):
    return dict(os.environ, XDG_CACHE_HOME=str(pathlib.Path(FOLDER.name, cache)), PITH_DATA="")


def train(cache, *arguments):
    r = subprocess.run([PITH, "train", *map(str, arguments)], capture_output=True, env=environment(cache), timeout=120, text=True)
    return r


class Train(unittest.TestCase):
    def test_bed(self):
        write_card(24)
        r = train("bed", CARD, "--json", "-t", 1)
        self.assertEqual(r.returncode, 0, r.stderr)
        first = json.loads(r.stdout)
        self.assertFalse(first["was_cached"])
        folder = pathlib.Path(first["folder"])
        self.assertEqual(sorted(p.name for p in folder.iterdir()), ["bed.json", "curves.csv", "curves.png", "curves.svg", "net.safetensors"])
        with open(folder / "curves.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        self.assertEqual([int(r["step"]) for r in rows], list(range(1, 25)))
        self.assertEqual([int(r["step"]) for r in rows if r["acc"]], [6, 12, 18, 24])
        self.assertEqual(float(rows[-1]["acc"]), first["rows"]["bed"]["acc"])
        self.assertLess(sum(float(r["loss"]) for r in rows[-6:]), sum(float(r["loss"]) for r in rows[:6]))
        again = json.loads(train("bed", CARD, "--json").stdout)
        self.assertTrue(again["was_cached"])
        self.assertEqual(again["rows"], first["rows"])
        threads = json.loads(train("threads", CARD, "--json", "-t", 3).stdout)
        self.assertEqual(pathlib.Path(threads["folder"], "net.safetensors").read_bytes(), (folder / "net.safetensors").read_bytes())
        other = json.loads(train("bed", CARD, "--json", "--seed", 2).stdout)
        self.assertNotEqual(pathlib.Path(other["folder"], "net.safetensors").read_bytes(), (folder / "net.safetensors").read_bytes())
        text = train("bed", CARD).stdout
        self.assertIn("trained already", text)
        self.assertIn("bed.acc", text)
        self.assertNotIn("stands in", text)
        quick = train("bed", CARD, "--quick", "-v").stderr
        self.assertIn("training the bed tiny (quick), seed 1\n", quick)   # the card's minutes are of full runs
        r = train("bed", CARD, "--workers", 3)
        self.assertEqual(r.returncode, 1)
        self.assertIn("a batch of 8 cannot be shared by 3 workers; take a number of them that divides it", r.stderr)

    def test_stand_in(self):
        """Data that had to be replaced are told with the result."""
        CARD.write_text(TEXT.replace("STEPS", "2").replace("[factors]", "[fashion, factors]"))
        told = "fashion is not here, and factors stands in for it"
        self.assertIn(told, train("stand_in", CARD).stdout)
        r = json.loads(train("stand_in", CARD, "--json").stdout)
        self.assertTrue(r["was_cached"])
        self.assertTrue(any(told in n for n in r["notes"]), r)

    def test_lines(self):
        """Elsewhere than on a terminal: one line every few seconds, not another of progress beside it."""
        write_card(40000)
        process = subprocess.Popen([PITH, "train", CARD, "-t", "1"], env=environment("lines"), stderr=subprocess.PIPE, text=True)
        line = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertRegex(line, r"^pith: step [0-9]+ of 40000: loss .* images/s, .* left$")

    def test_stopped(self):
        """Interrupted in the middle, then again: the same network as without."""
        write_card(400)
        whole = json.loads(train("whole", CARD, "--json").stdout)
        process = subprocess.Popen([PITH, "train", CARD, "-v"], env=environment("stopped"), stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "step 40 of 400" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(60), 130, rest)
        r = train("stopped", CARD, "--json")
        self.assertRegex(r.stderr, r"goes on from step [0-9]+, where it was stopped\n")
        stopped = json.loads(r.stdout)
        self.assertEqual(stopped["rows"], whole["rows"])
        self.assertEqual(pathlib.Path(stopped["folder"], "net.safetensors").read_bytes(), pathlib.Path(whole["folder"], "net.safetensors").read_bytes())

    def test_workers(self):
        """Compressed gradients of workers in one process: told, kept apart, and the same after a kill."""
        write_card(150)
        words = (CARD, "--workers", 4, "--compress", "topk:0.05")
        whole = json.loads(train("workers", *words, "--json").stdout)
        self.assertEqual((whole["n_workers"], whole["compress"]), (4, "topk:0.05 with ef"))
        self.assertEqual(whole["sent_bytes_per_step"] / whole["dense_bytes_per_step"], whole["sent_of_dense"])
        self.assertTrue(0.05 < whole["sent_of_dense"] < 0.2, whole)
        self.assertIn("4 workers, each sent", train("workers", *words).stdout)
        other = json.loads(train("workers", *words, "--json", "--feedback", "ef21").stdout)
        self.assertNotEqual(other["folder"], whole["folder"])
        process = subprocess.Popen([PITH, "train", *map(str, words), "-v"], env=environment("killed"), stderr=subprocess.PIPE, text=True)
        for line in process.stderr:
            if "step 40 of 150" in line:
                self.assertRegex(line, r"sent [0-9.]+ kB a step, 0\.[0-9]+ of dense")
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(60), 130, rest)
        part, = pathlib.Path(FOLDER.name, "killed", "pith", "beds").glob("*.part")
        self.assertTrue((part / "checkpoint").exists())
        again = train("killed", *words, "-v", "--json")
        self.assertIn("goes on from step", again.stderr)
        again = json.loads(again.stdout)
        self.assertEqual(pathlib.Path(again.pop("folder"), "net.safetensors").read_bytes(), pathlib.Path(whole.pop("folder"), "net.safetensors").read_bytes())
        self.assertEqual(again, whole)

    def test_compress_words(self):
        write_card(4)
        for words, told in ((("--compress", "topk"), "topk:SHARE"), (("--compress", "zip"), "none, topk:SHARE, randk:SHARE, qsgd:BITS, sign or powersgd:RANK"),
                            (("--compress", "sign", "--feedback", "x"), "none, ef, ef21 or econtrol[:ETA]"), (("--feedback", "ef"), "nothing to feed back"),
                            (("--compress", "qsgd:99"), "2 to 16 bits")):
            r = train("words", CARD, *words)
            self.assertEqual(r.returncode, 2, r.stderr)
            self.assertIn(told, r.stderr)
        alone = train("words", CARD, "--compress", "sign")
        self.assertEqual(alone.returncode, 2, alone.stderr)
        self.assertIn("nobody to send gradients to", alone.stderr)
        dense = json.loads(train("words", CARD, "--compress", "none", "--json").stdout)
        self.assertNotIn("n_workers", dense)
        # what a card asks for is left out of a run alone, and said
        write_card(4, "  compress: sign\n")
        alone = train("words", CARD, "--json")
        self.assertIn("nobody to send gradients to", alone.stderr)
        self.assertNotIn("n_workers", json.loads(alone.stdout))
        write_card(4)
        plain = json.loads(train("words", CARD, "--json", "--workers", 2).stdout)
        self.assertEqual((plain["n_workers"], plain["compress"]), (2, "none"))
        self.assertTrue(1 <= plain["sent_of_dense"] < 1.2, plain)
        # numbers of a file are not believed
        result = pathlib.Path(plain["folder"], "bed.json")
        for key, wrong in ("n_workers", 1e6), ("sent_bytes_per_step", 1e300), ("dense_bytes_per_step", 0):
            result.write_text(json.dumps(json.loads(result.read_text()) | {"n_workers": 2, "sent_bytes_per_step": 8, "dense_bytes_per_step": 8, key: wrong}))
            r = train("words", CARD, "--workers", 2)
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("no sensible numbers", r.stderr)
        # the card's own words
        CARD.write_text(CARD.read_text().replace("  batch: 8\n", "  batch: 8\n  compress: qsgd:5\n  feedback: ef\n"))
        self.assertEqual(json.loads(train("words", CARD, "--json", "--workers", 2).stdout)["compress"], "qsgd:5 with ef")
        self.assertEqual(json.loads(train("words", CARD, "--json", "--workers", 2, "--compress", "sign").stdout)["compress"], "sign with ef")
        self.assertEqual(json.loads(train("words", CARD, "--json", "--workers", 2, "--feedback", "ef21").stdout)["compress"], "qsgd:5 with ef21")
        CARD.write_text(CARD.read_text().replace("qsgd:5", "qsgd"))
        r = train("words", CARD)
        self.assertEqual(r.returncode, 1)
        self.assertRegex(r.stderr, r"tiny\.yaml:[0-9]+:[0-9]+: .*qsgd:BITS")
        help = subprocess.run([PITH, "train", "--help"], capture_output=True, text=True).stdout
        self.assertIn("powersgd:RANK", help)
        for shell in "bash", "zsh":
            self.assertIn("none topk randk qsgd sign powersgd", subprocess.run([PITH, "help", "--completion", shell], capture_output=True, text=True).stdout)

    def test_view(self):
        """On a terminal: curves of dots, drawn again in place."""
        write_card(25)
        parent, child = pty.openpty()
        process = subprocess.Popen([PITH, "train", CARD], env=dict(environment("view"), TERM="xterm"), stdout=subprocess.DEVNULL, stderr=child)
        os.close(child)
        seen, end = b"", time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([parent], [], [], 0.1)[0]:
                try:
                    seen += os.read(parent, 65536)
                except OSError:
                    break
        os.close(parent)
        self.assertEqual(process.wait(60), 0, seen)
        text = seen.decode()
        self.assertTrue(any(0x2801 <= ord(c) <= 0x28FF for c in text), text)
        self.assertIn("step 25 of 25: loss ", text)
        self.assertIn("images/s", text)
        self.assertRegex(text, "\033\\[[0-9]+A\033\\[J")

    def test_errors(self):
        write_card(24)
        r = train("errors", "gradual-pruning")
        self.assertEqual(r.returncode, 1)
        self.assertIn("pith reproduce gradual-pruning", r.stderr)
        CARD.write_text(CARD.read_text().replace("widths", "width"))
        r = train("errors", CARD)
        self.assertEqual(r.returncode, 1)
        self.assertIn("width", r.stderr)
        CARD.write_text(CARD.read_text().replace("'{", "'["))
        r = train("errors", CARD)
        self.assertIn("net_settings", r.stderr)
        self.assertEqual(train("errors").returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
