#!/usr/bin/env bash
# Run one fuzz target: fuzz-one.sh SECONDS TARGET.  New inputs gather in .cache/corpus/<name>; seeds are in
# .cache/seeds/<name>.  An input that breaks something is kept as .cache/crashes/<name>-*.
set -u
seconds=$1 target=$2
name=$(basename "$target")
name=${name#fuzz_}
mkdir -p ".cache/corpus/$name" ".cache/seeds/$name" .cache/crashes
export ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1
"$target" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix=".cache/crashes/$name-" \
    ".cache/corpus/$name" ".cache/seeds/$name" > ".cache/crashes/$name.log" 2>&1
code=$?
runs=$(sed -n 's/^stat::number_of_executed_units: *//p' ".cache/crashes/$name.log")
if [ $code = 0 ]; then
    printf '   %s: %s inputs\n' "$name" "$runs"
else
    printf '   %s: FAILED\n' "$name"
    grep -E -A 12 'ERROR|SUMMARY|runtime error' ".cache/crashes/$name.log" | head -n 40
    exit 1
fi
