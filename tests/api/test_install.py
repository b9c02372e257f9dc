"""An installed pith serves a program outside: header, pkg-config, libraries, man page, completion.

Installs the build into a temporary folder, builds the examples there through pkg-config (shared and static) and runs them.
usage: test_install.py BUILD_FOLDER SOURCE_FOLDER MAKE_TINY
"""
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile


def run(*command, **more):
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if r.returncode:
        sys.exit(f"{shlex.join(map(str, command))}: exit {r.returncode}\n{r.stdout}{r.stderr}")
    return r.stdout


def main():
    build, source, make_tiny = (pathlib.Path(a).resolve() for a in sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="pith-install-") as folder:
        root = pathlib.Path(folder)
        run("meson", "install", "-C", build, "--no-rebuild", "--destdir", root)
        (pc,) = root.rglob("pith.pc")
        assert pc.stat().st_size and list(root.rglob("bin/pith")) and list(root.rglob("man1/pith.1*")) and list(root.rglob("site-functions/_pith"))
        env = dict(os.environ, PKG_CONFIG_SYSROOT_DIR=str(root), LD_LIBRARY_PATH=str(pc.parents[1]))
        # packages that pith.pc names stay where the system has them; the root goes before ours alone
        env["PKG_CONFIG_PATH"] = str(pc.parent)
        cflags = run("pkg-config", "--cflags", "pith", env=env).split()
        libs = run("pkg-config", "--libs", "pith", env=env).split()
        assert run("pkg-config", "--modversion", "pith", env=env) == run(build / "pith", "--version").replace("pith ", "")
        # pith alone linked statically: of what it stands on, the shared libraries
        below = run("pkg-config", "--print-requires-private", "pith", env=env).split()
        plain = {k: v for k, v in env.items() if k != "PKG_CONFIG_SYSROOT_DIR"}
        static = [str(pc.parents[1] / "libpith.a"), *run("pkg-config", "--libs", *below, env=plain).split(), "-lm", "-pthread"]
        model, text = root / "tiny.gguf", root / "text.txt"
        run(make_tiny, model, "seed", "5")
        text.write_text("the cat sat on a mat. " * 60)
        compiler = shlex.split(os.environ.get("CC", "cc"))
        cases = {"ask": [model, "Hello"], "measure": [model, model, text], "shrink": [model, root / "tiny.pith"]}
        for example in sorted((source / "examples").glob("*.c")):
            assert example.stem in cases, f"{example.name} is not tested"
            outputs = []
            for kind, flags in (("shared", libs), ("static", static)):
                program = root / f"{example.stem}-{kind}"
                run(*compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", example, *cflags, *flags, "-o", program)
                outputs.append(run(program, *cases[example.stem], env=env, timeout=60))
                linked = run("ldd", program, env=env)
                assert ("libpith.so" in linked) == (kind == "shared"), linked
            assert outputs[0] == outputs[1] and outputs[0], (example, outputs)
            assert subprocess.run([root / f"{example.stem}-shared"], env=env, capture_output=True).returncode == 2
            print(f"{example.name}: {outputs[0].splitlines()[-1]}")
        if shutil.which("c++"):
            run("c++", "-std=c++11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-x", "c++", *cflags, source / "include/pith.h")


if __name__ == "__main__":
    main()
