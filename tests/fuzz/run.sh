#!/usr/bin/env bash
# Runs each fuzz target for a number of seconds: `tests/fuzz/run.sh [SECONDS] [TARGET...]`.
#
# It needs nothing but stable Rust and a C++ compiler. What is found on the way is kept in
# target/fuzz/corpus, so that the next run goes on from there; an input that fails is kept beside it
# and replayed with `cargo run -p polyloop-fuzz --bin TARGET FILE`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds="${1:-60}"
shift || true
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || targets=(lines frames addresses selector_script)

host="$(rustc -vV | sed -n 's/^host: //p')"
target_dir="${CARGO_TARGET_DIR:-target}/fuzz"
# The coverage that libFuzzer reads, by flags that the stable compiler has.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Ccodegen-units=1"
CARGO_TARGET_DIR="$target_dir" cargo build --locked --release --target "$host" -p polyloop-fuzz

# Rust's own `main` ignores this, libFuzzer's does not; what is ignored is inherited.
trap '' PIPE

for name in "${targets[@]}"; do
    mkdir -p "$target_dir/corpus/$name"
    echo "fuzzing $name for $seconds s"
    "$target_dir/$host/release/$name" -max_total_time="$seconds" -max_len=2048 -timeout=20 \
        -print_final_stats=1 -verbosity=0 -artifact_prefix="$target_dir/$name-" \
        "$target_dir/corpus/$name"
done
