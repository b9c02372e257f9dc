"""Several processes train as one: the same losses, and what a kill leaves.

usage: test_processes.py TRAIN_PROCESSES EXCHANGE_PROCESSES PITH [unittest arguments]      exits 77 (skipped) without mpirun
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM, EXCHANGE, PITH = map(os.path.abspath, sys.argv[1:4])
MPIRUN = shutil.which("mpirun")
# one machine: no network is looked for
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("OMPI_")} | {
    "OMPI_MCA_btl": "self,vader", "OMPI_MCA_btl_vader_single_copy_mechanism": "none", "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


CARD = """
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
settings: {net: resnet20, net_settings: '{"width": 4, "blocks": 1}', images: [factors], n_images: 64, n_test: 32, evaluations: 2}
train: {rate: 0.01, steps: 12, batch: 8}
rows: {bed: the trained network}
measures: {acc: share that is right, loss: nats, parameters: values}
"""


def train(n, parts, steps, checkpoint="", *die, compress="none", workers=1):
    command = ([MPIRUN, "-n", str(n)] if n > 1 else []) + [PROGRAM, *map(str, (parts, steps, checkpoint, compress, workers, *die))]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=150)


def exchange(way, n, processes):
    """What n workers end with, as processes or simulated by one."""
    command = ([MPIRUN, "-n", str(n)] if processes else []) + [EXCHANGE, way, str(n)]
    r = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=150)
    if r.returncode:
        raise AssertionError(r.stderr)
    assert r.stdout.count("\n") == 1, r.stdout
    return r.stdout


def figures(result):
    if result.returncode:
        raise AssertionError(result.stderr)
    lines = result.stdout.split("\n")
    assert len(lines) == 2, result.stdout  # one process prints
    m = re.fullmatch(r"losses (\S+) hash (\w+) early (\d+) of (\d+)", lines[0])
    return float(m[1]), m[2], int(m[3]), int(m[4])


class Processes(unittest.TestCase):
    def test_same(self):
        whole = figures(train(1, 1, 20))
        for n in (2, 4):
            alone, shared = figures(train(1, n, 20)), figures(train(n, n, 20))
            self.assertEqual(alone[:2], shared[:2])                       # a part each: the same bits
            self.assertLess(abs(shared[0] - whole[0]), 1e-5 * whole[0])   # one batch of all
            self.assertGreater(shared[2], 0)                              # sent while the backward pass went on
        halves = figures(train(2, 4, 20))
        self.assertLess(abs(halves[0] - whole[0]), 1e-5 * whole[0])

    def test_killed(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "checkpoint")
            r = train(2, 2, 20, path, 1, 9)
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("rank 1", r.stderr)
            self.assertIn("signal 9", r.stderr)
            self.assertTrue(path.exists())
            self.assertEqual(figures(train(2, 2, 20, path))[:2], figures(train(1, 2, 20))[:2])

    def test_compressed(self):
        """Processes and workers simulated by one: the same losses and weights, also after a kill."""
        with tempfile.TemporaryDirectory() as folder:
            for way in ("none", "topk:0.1", "powersgd:2"):
                with self.subTest(way):
                    path = pathlib.Path(folder, way)
                    whole = figures(train(1, 6, 20, compress=way, workers=3))[:2]
                    self.assertEqual(figures(train(3, 6, 20, compress=way))[:2], whole)
                    r = train(3, 6, 20, path, 2, 11, compress=way)
                    self.assertNotEqual(r.returncode, 0)
                    self.assertIn("rank 2", r.stderr)
                    self.assertIn("signal 9", r.stderr)
                    copy = path.read_bytes()
                    self.assertEqual(figures(train(3, 6, 20, path, compress=way))[:2], whole)
                    path.write_bytes(copy)
                    self.assertEqual(figures(train(1, 6, 20, path, compress=way, workers=3))[:2], whole)
            path.write_bytes(copy)
            r = train(2, 6, 20, path, compress="powersgd:2")
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("was made by 3 workers that send powersgd:2 with ef, and this run has 2 workers", r.stderr)
            self.assertEqual(path.read_bytes(), copy)

    def test_program(self):
        """pith train: by two processes, and the same two in one."""
        with tempfile.TemporaryDirectory() as folder:
            card = pathlib.Path(folder, "tiny.yaml")
            card.write_text(CARD)
            for how, told, share in ("none", "none", 1.1), ("topk:0.1", "topk:0.1 with ef", 0.3):
                results, words = [], [PITH, "train", str(card), "-t", "1", "--json", "--compress", how]
                for name, command in ("processes", [MPIRUN, "-n", "2", *words]), ("here", [*words, "--workers", "2"]):
                    r = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT | {"XDG_CACHE_HOME": str(pathlib.Path(folder, name)), "PITH_DATA": ""}, timeout=150)
                    self.assertEqual(r.returncode, 0, r.stderr)
                    results.append(json.loads(r.stdout))
                    results[-1]["net"] = pathlib.Path(results[-1].pop("folder"), "net.safetensors").read_bytes()
                self.assertEqual(*results)
                self.assertEqual((results[0]["n_workers"], results[0]["compress"]), (2, told))
                self.assertLess(results[0]["sent_of_dense"], share)
            r = subprocess.run([MPIRUN, "-n", "2", *words, "--workers", "3"], capture_output=True, text=True, env=ENVIRONMENT, timeout=150)
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("mpirun started 2 processes", r.stderr)

    def test_exchange(self):
        for way in ("dense", "top_k", "random_k", "qsgd", "sign", "power"):
            with self.subTest(way):
                self.assertEqual(exchange(way, 3, True), exchange(way, 3, False))     # the same bytes and weights

    def test_reduce(self):
        for n in (2, 4):
            self.assertEqual(exchange("reduce", n, True).split()[1], exchange("reduce", n, False).split()[1])

    def test_wrong_parts(self):
        r = train(2, 3, 20)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("cannot be shared by 2 workers", r.stderr)


if __name__ == "__main__":
    if not MPIRUN:
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
