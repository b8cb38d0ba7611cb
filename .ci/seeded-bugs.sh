#!/usr/bin/env bash
# Proves that the loom models would catch the bugs they are there for: each is seeded by a cfg, and a model must fail.
# A model that stays green under its bug checks nothing.
set -uo pipefail
cd "$(dirname "$0")/.."

export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0
export CARGO_TARGET_DIR=target/loom-seeded

bugs_of() { # crate: the names that its sources mention
    grep -rhoE 'anteroom_bug = "[a-z_]+"' "$1/src" | sed -E 's/.*"(.*)"/\1/' | sort -u
}

failed=0
for crate in limiter:anteroom-limiter runtime:anteroom; do
    for bug in $(bugs_of "${crate%%:*}"); do
        package=${crate##*:}
        # Where a part has its models in a file of its own, its bugs are theirs to catch.
        part=${bug%%_*}
        models=loom
        [ -f "${crate%%:*}/src/models/$part.rs" ] && models="models::$part"
        out=$(RUSTFLAGS="--cfg anteroom_loom --cfg anteroom_bug=\"$bug\"" RUST_BACKTRACE=0 \
            timeout 600 cargo test --release -p "$package" --lib "$models" 2>&1)
        status=$?
        # A failed model, or one whose panic met another on the way out, which ends the process.
        if [ "$status" -ne 124 ] && grep -qE 'test result: FAILED|SIGABRT' <<<"$out"; then
            echo "$package: $bug is caught: $(grep -oE '^test [^ ]+ \.\.\. FAILED|SIGABRT' <<<"$out" | sed -E 's/^test ([^ ]+).*/\1/' | paste -sd' ')"
        else
            echo "$package: $bug is NOT caught"
            tail -5 <<<"$out"
            failed=1
        fi
    done
done
exit "$failed"
