#!/bin/sh
# Build the ground, the kernels and their tests for 64-bit ARM and run the tests under QEMU.
# Needs gcc-aarch64-linux-gnu, qemu-user and the header of libxxhash, nothing else built for ARM:
# cmocka is stood in for by a header.  Exits 77 (skipped) where the compiler or QEMU is missing.
set -eu
cd "$(dirname "$0")/.."
cc=${CC:-aarch64-linux-gnu-gcc}
run="qemu-aarch64 -L /usr/aarch64-linux-gnu"
command -v "$cc" >/dev/null && command -v qemu-aarch64 >/dev/null || { echo "no $cc or no qemu-aarch64: skipped"; exit 77; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cp /usr/include/xxhash.h "$out"
printf '#define PITH_VERSION "cross"\n' > "$out/config.h"
flags="-std=gnu11 -O2 -Wall -Wextra -Wpedantic -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -ffp-contract=off -fno-math-errno
       -D_GNU_SOURCE -Iinclude -Isrc -I$out -Itests -Icross/stand_in -pthread"
objects=
compile() { # name, source, flags
    $cc $flags $3 -c "$2" -o "$out/$1.o"
    objects="$objects $out/$1.o"
}
for f in src/base/*.c src/tensor/dtype.c src/tensor/gemm.c src/tensor/gemm_simd.c src/tensor/gemm_whole.c src/tensor/kern_ref.c src/tensor/kernels.c src/tensor/qmat.c; do
    compile "$(basename "$f" .c)" "$f" ""
done
compile gemm16 src/tensor/gemm_whole_simd.c ""
compile gemm8 src/tensor/gemm_whole_simd.c "-DPITH_GEMM8"
compile neon src/tensor/kern_neon.c ""
compile neon_dot src/tensor/kern_neon.c "-march=armv8.2-a+dotprod -DPITH_KERN_DOT"
for t in values qmat gemm kernels; do
    $cc $flags tests/tensor/test_$t.c $objects -lm -o "$out/test_$t"
    $run "$out/test_$t"
done
