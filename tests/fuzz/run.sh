#!/usr/bin/env bash
# Runs each fuzz target for a number of seconds: `tests/fuzz/run.sh [SECONDS] [TARGET...]`.
#
# It needs stable Rust and a C++ compiler. Inputs that reach new code are kept in target/fuzz/corpus, where the
# next run continues. A failing input is kept beside it; replay it with
# `cargo run -p polyloop-fuzz --bin TARGET FILE`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds="${1:-60}"
shift || true
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || targets=(lines frames addresses selector_script)

host="$(rustc -vV | sed -n 's/^host: //p')"
target_dir="${CARGO_TARGET_DIR:-target}/fuzz"
# The coverage instrumentation that libFuzzer reads, with flags of the stable compiler.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Cdebug-assertions -Ccodegen-units=1"
CARGO_TARGET_DIR="$target_dir" cargo build --locked --release --target "$host" -p polyloop-fuzz

# Rust's `main` ignores SIGPIPE, libFuzzer's does not. Child processes inherit an ignored signal.
trap '' PIPE

for name in "${targets[@]}"; do
    mkdir -p "$target_dir/corpus/$name"
    echo "fuzzing $name for $seconds s"
    "$target_dir/$host/release/$name" -max_total_time="$seconds" -max_len=2048 -timeout=20 \
        -print_final_stats=1 -verbosity=0 -artifact_prefix="$target_dir/$name-" \
        "$target_dir/corpus/$name"
done
