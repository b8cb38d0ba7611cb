#!/usr/bin/env bash
# Proves that the loom models would catch the bugs they are there for: each is seeded by its name, and a model must fail.
# A model that stays green under its bug checks nothing. One build for all: the models' binary reads the name.
set -uo pipefail
cd "$(dirname "$0")/.."

export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/loom} RUSTFLAGS="--cfg anteroom_loom" RUST_BACKTRACE=0

models() { # package, models, bug
    local features=()
    [ "$1" = anteroom ] && features=(--features stealing)
    ANTEROOM_BUG=$3 timeout 600 cargo test --release -p "$1" "${features[@]}" --lib "$2" 2>&1
}

bugs_of() { # crate: the names that its sources mention, but for those that shuttle's harnesses catch by themselves
    grep -rhoE 'seeded\("[a-z_]+"\)' "$1/src" | sed -E 's/.*"(.*)".*/\1/' | grep -v '^shuttle_' | sort -u
}

failed=0
for crate in limiter:anteroom-limiter runtime:anteroom; do
    folder=${crate%%:*} package=${crate##*:} count=0
    for bug in $(bugs_of "$folder"); do
        count=$((count + 1))
        # Where a part has its models in a file of its own, its bugs are theirs to catch.
        part=${bug%%_*}
        models=loom
        # The runtime's other bugs are of what stands at the top of its models; all of them would take minutes for each.
        [ "$folder" = runtime ] && models=models::loom
        [ -f "$folder/src/models/$part.rs" ] && models="models::$part"
        out=$(models "$package" "$models" "$bug")
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
    # A name that nobody seeds must catch nothing, or the failures above are not of their bugs.
    if [ "$count" -eq 0 ] || ! models "$package" models no_such_bug >/dev/null; then
        echo "$package: $count seeded bugs, and the models fail without one"
        failed=1
    fi
done
exit "$failed"
