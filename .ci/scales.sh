#!/usr/bin/env bash
# Two workers do twice the work of one, or nearly: jobs that each work for 20 microseconds, spawned by one task, on
# `build_stealing(1)` and on `build_stealing(2)` in turn. Fails if the median of the pairs is below 1.8.
#
# That says something only where two cores are free for it. So the script first lets two threads of `crawl`'s own work at the
# same time, with nothing to share, before each pair: where they did not get nearly two cores between them, the pair is taken
# again, and after too many of those the script says so and passes. On a machine with one core it says so and passes, too.
# With SCALES_STRICT=1 it fails in both cases: for a machine that is known to be quiet.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=${SCALES_JOBS:-50000}     # a second of work
work_us=20
pairs=${SCALES_PAIRS:-5}
tries_max=${SCALES_TRIES:-20}
factor_min=1.8
cores_min=1.85                 # what two processes must have got for a pair to count; starting them takes some 0.1 of the 2

give_up() {
    echo "scales: not measured: $1"
    [ "${SCALES_STRICT:-0}" = 0 ]
    exit
}

if [ "$(nproc)" -lt 2 ]; then
    give_up "it takes two cores, and there is one"
fi
cargo build --release --quiet -p anteroom-examples --example crawl
crawl="${CARGO_TARGET_DIR:-target}/release/examples/crawl"

# Nanoseconds a job on so many workers.
ns() { "$crawl" --jobs "$jobs" --work-us $work_us --workers "$1" --alone | awk '$1 == "ns_per_job" { print $2 }'; }

# How many cores two processes get that have nothing to do with each other: each of them alone would take so long.
cores() {
    local begin end first
    begin=$(date +%s%N)
    "$crawl" --jobs $((jobs / 5)) --work-us $work_us --alone >/dev/null &
    first=$!
    "$crawl" --jobs $((jobs / 5)) --work-us $work_us --alone >/dev/null
    wait $first
    end=$(date +%s%N)
    echo "$jobs $work_us $((end - begin))" | awk '{ printf "%.2f", 2 * $1 / 5 * $2 * 1000 / $3 }'
}

at_least() { awk -v is="$1" -v least="$2" 'BEGIN { exit !(is >= least) }'; }

factors=()
for ((try = 1; try <= tries_max && ${#factors[@]} < pairs; try++)); do
    before=$(cores)
    one=$(ns 1)
    two=$(ns 2)
    after=$(cores)
    factor=$(awk -v one="$one" -v two="$two" 'BEGIN { printf "%.2f", one / two }')
    note=
    if at_least "$before" $cores_min && at_least "$after" $cores_min; then
        factors+=("$factor")
    else
        note=", does not count: two processes got $before cores before, $after after it"
    fi
    echo "scales: one worker $one ns a job, two $two: $factor times as fast$note"
done
if [ ${#factors[@]} -lt "$pairs" ]; then
    give_up "two cores were free in ${#factors[@]} of $tries_max pairs, of $pairs"
fi
median=$(printf '%s\n' "${factors[@]}" | sort -n | sed -n "$(((pairs + 1) / 2))p")
if ! at_least "$median" $factor_min; then
    echo "scales: FAILED: two workers are $median times as fast as one, the median of $pairs pairs; $factor_min is the least" >&2
    exit 1
fi
echo "scales: two workers are $median times as fast as one, the median of $pairs pairs"
