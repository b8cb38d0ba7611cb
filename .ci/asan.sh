#!/usr/bin/env bash
# AddressSanitizer and LeakSanitizer over all tests of the limiter, the runtime and the black box, doc tests included.
#
# `anteroom_asan` switches the cache of bodies off, so that every block goes back to the allocator and its end is seen.
# Homes, headers and the nodes of waiting spawns are leaked on purpose; they stay reachable, so nothing is reported of them.
# Arguments go to `cargo test`, such as `-p anteroom-tests --test threads`; without any, everything runs.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | awk '/^host:/ { print $2 }')
if [[ $target != x86_64-unknown-linux-gnu && $target != aarch64-unknown-linux-gnu ]]; then
    echo "asan: no sanitizers for $target"
    exit 0
fi

# The sanitizers of a stable compiler are behind the bootstrap flag; the standard library is taken as it is.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address --cfg anteroom_asan ${RUSTFLAGS:-}"
export RUSTDOCFLAGS="-Zsanitizer=address --cfg anteroom_asan ${RUSTDOCFLAGS:-}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/asan
export ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_init_order=1:${ASAN_OPTIONS:-}
export RUST_BACKTRACE=0

test_all() {
    cargo test --quiet --target "$target" "$@"
}

if [[ $# -gt 0 ]]; then
    test_all "$@"
    exit
fi

# First that the tools see what they are for: a use after free and a leak must be reported.
cargo build --quiet --target "$target" -p anteroom-tests --bin broken
for fault in use-after-free leak; do
    if "$CARGO_TARGET_DIR/$target/debug/broken" $fault >"$CARGO_TARGET_DIR/broken.log" 2>&1; then
        echo "asan: FAILED, blind to a $fault" >&2
        exit 1
    fi
    grep -q "AddressSanitizer: heap-use-after-free\|LeakSanitizer: detected memory leaks" "$CARGO_TARGET_DIR/broken.log"
done

test_all --no-fail-fast -p anteroom-limiter -p anteroom -p anteroom-tests
echo "asan: no report"
