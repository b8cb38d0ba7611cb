#!/usr/bin/env bash
# Miri, with strict provenance, over the unit tests of the runtime and the limiter: for who has a nightly toolchain with it.
# Not a part of `.ci/run`. Arguments go to the tests, such as a part of a test's name.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
    echo "miri: there is none here (rustup +nightly component add miri), so nothing was checked"
    exit 0
fi

# Homes and headers are leaked on purpose. Clocks are read, and files of the system opened, so nothing is isolated; what
# Miri has no shim for (epoll by mio, timerfd) no unit test of these crates asks for.
export MIRIFLAGS="-Zmiri-strict-provenance -Zmiri-ignore-leaks -Zmiri-disable-isolation ${MIRIFLAGS:-}"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/miri CARGO_INCREMENTAL=0
# A few cases of each property: Miri is slow.
export PROPTEST_CASES=${PROPTEST_CASES:-8}
cargo +nightly miri test -p anteroom-limiter -p anteroom --lib -- "$@"
echo "miri: no report"
