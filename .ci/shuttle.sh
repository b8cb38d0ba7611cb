#!/usr/bin/env bash
# Shuttle's harnesses of the work-stealing mode. Without arguments some thousand schedules of each, always the same, and the bugs
# that they must catch. `.ci/shuttle.sh SCHEDULES [SEED]` runs so many in all, a million by hand or once a week, other ones each
# time unless a seed is given, and prints how many a second; a failure prints what shows it again.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/shuttle} RUSTFLAGS="--cfg anteroom_shuttle" RUST_BACKTRACE=0

harnesses() { cargo test --quiet --release -p anteroom --features stealing --lib shuttle_ -- "$@"; }

if [ "$#" -eq 0 ]; then
    harnesses
    exit
fi

schedules=$1 seed=${2:-$(date +%s)}
names=$(harnesses --list | sed -n 's/: test$//p' | grep -v ::canary::)
count=$(wc -l <<<"$names")
echo "shuttle: $schedules schedules in $count harnesses, seed $seed"

# A schedule leaves its runtime's home behind, some 15 KiB, so that a process runs only so many.
of_process=10000
each=$(((schedules + count - 1) / count)) ran=0 tenths=0
while [ "$each" -gt 0 ]; do
    now=$((each < of_process ? each : of_process))
    for name in $names; do
        if ! out=$(ANTEROOM_SHUTTLE_SCHEDULES=$now ANTEROOM_SHUTTLE_SEED=$seed harnesses --exact "$name" --nocapture 2>&1); then
            printf '%s\n' "$out"
            exit 1
        fi
        line=$(grep -o '^.*shuttle shuttle_.*' <<<"$out" | sed 's/.*shuttle shuttle_/shuttle_/')
        echo "$line"
        ran=$((ran + $(sed -E 's/.*: ([0-9]+) schedules.*/\1/' <<<"$line")))
        tenths=$((tenths + 10#$(sed -E 's/.*, ([0-9]+)\.([0-9]) s,.*/\1\2/' <<<"$line")))
    done
    each=$((each - now)) seed=$((seed + 1))
done
if [ "$ran" -lt "$schedules" ]; then
    echo "shuttle: only $ran of $schedules schedules ran"
    exit 1
fi
echo "shuttle: $ran schedules without a failure, $((ran * 10 / (tenths + 1))) a second"
