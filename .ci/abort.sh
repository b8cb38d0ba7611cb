#!/usr/bin/env bash
# With `panic = "abort"` the runtime builds and works, and a panic anywhere in it is an abort (SIGABRT) and nothing worse: no
# unwinding into what does not expect it, no hang, no other signal. Where panics unwind, the same program goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_INCREMENTAL=0 RUST_BACKTRACE=0 CARGO_TERM_COLOR=never
ulimit -c 0
target=${CARGO_TARGET_DIR:-target}
# As in release, and quicker to build.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0

build() { # strategy: builds the program, and prints where it is
    CARGO_PROFILE_RELEASE_PANIC=$1 CARGO_TARGET_DIR=$target/panic-$1 \
        cargo build --quiet --release -p anteroom-tests --bin aborts >&2
    echo "$target/panic-$1/release/aborts"
}

out=$(mktemp)
trap 'rm -f "$out"' EXIT

# Runs `$1 $2`, whose output is then in $out; its status is in $status. A minute is more than any of it takes.
run() {
    status=0
    # The braces keep what the shell itself says of an abort out of the way.
    { timeout --signal=KILL 60 "$1" "$2" >"$out" 2>&1; } 2>/dev/null || status=$?
}

fail() {
    cat "$out"
    echo "abort: FAILED, $1" >&2
    exit 1
}

aborting=$(build abort)
unwinding=$(build unwind)

for program in "$aborting" "$unwinding"; do
    run "$program" work
    [[ $status -eq 0 && $(cat "$out") == done ]] || fail "$program work ended with $status"
done

for place in poll output waker job root; do
    # 128 and SIGABRT's 6, as the shell tells it.
    run "$aborting" "$place"
    [[ $status -eq 134 ]] || fail "a panic in $place ended with $status, and not by an abort"
    grep -q '^done$' "$out" || fail "$place: it did not come so far"
    ! grep -q '^unwound$' "$out" || fail "$place: it went on after an abort"
    # One panic, and not one more on the way out.
    [[ $(grep -c ' panicked at ' "$out") -eq 1 ]] || fail "$place: more than the one panic"

    run "$unwinding" "$place"
    if [[ $place == root ]]; then
        [[ $status -eq 101 ]] || fail "a panic in block_on's future, unwinding, ended with $status"
    else
        [[ $status -eq 0 ]] && grep -q '^unwound$' "$out" || fail "a panic in $place, unwinding, ended with $status"
    fi
done
echo "abort: the work is done, and a panic in a poll, an output, a waker, a job or block_on is SIGABRT"
