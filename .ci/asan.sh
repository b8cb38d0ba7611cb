#!/usr/bin/env bash
# AddressSanitizer and LeakSanitizer over the whole test suite of the two crates and the black-box tests. The block cache is
# off under `anteroom_asan`: memory that a program recycles itself is invisible to a sanitizer. Homes, headers and waiters are
# leaked on purpose, and reachable from statics, so the leak check is on.
# `-Z` flags on a stable compiler take RUSTC_BOOTSTRAP; the target is named so that build scripts are left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=address --cfg anteroom_asan -Cdebuginfo=1"
export ASAN_OPTIONS="detect_leaks=1:detect_stack_use_after_return=1"
export CARGO_TARGET_DIR=target/asan
cargo test --target "$target" -p anteroom-limiter -p anteroom -p anteroom-tests --lib --bins --tests
