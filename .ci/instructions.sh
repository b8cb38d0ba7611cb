#!/usr/bin/env bash
# What an operation costs in instructions, single-threaded, has not grown: spawn_join, yield, ping_pong and fanout.
#
# Times differ from machine to machine; what one compiler makes of the code does not. Callgrind counts the instructions of so
# many operations and of ten times as many: an operation's are the difference, so that starting and building drop out.
# `benches/instructions.txt` has the counts that are known, under the compiler's version and the architecture; more than 5 %
# above them fails. A compiler without a line passes, and it is said. `--write` takes the counts of today as the known ones.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/callgrind.sh

known=benches/instructions.txt
operations=10000
percent_max=5
workloads=(spawn_join yield ping_pong fanout)

write=
case ${1:-} in
    '') ;;
    --write) write=1 ;;
    *) echo "instructions: [--write]" >&2; exit 2 ;;
esac

# The compiler that cargo takes, and what it builds for.
compiler="$("${RUSTC:-rustc}" -V) $(uname -m)"
if [[ -z $write ]] && ! grep -qF "$compiler: " "$known"; then
    echo "instructions: nothing is known of $compiler; --write makes it so"
    exit 0
fi

need valgrind valgrind
cargo build --quiet --release -p benches --bin instructions
program=$(release_dir)/instructions

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

count() { # workload, operations
    callgrind "$work/profile" -- "$program" "$1" "$2"
    # One number, of all instructions.
    sed -n 's/^totals: //p' "$work/profile"
}

failed=0
lines=()
for workload in "${workloads[@]}"; do
    few=$(count "$workload" $operations)
    many=$(count "$workload" $((operations * 10)))
    now=$(awk -v more=$((many - few)) -v operations=$((operations * 9)) 'BEGIN { printf "%.1f", more / operations }')
    lines+=("$compiler: $workload $now")
    before=$(sed -n "s|^$compiler: $workload ||p" "$known" | head -1)
    if [[ -z $before ]]; then
        echo "instructions: $workload: $now an operation"
        continue
    fi
    verdict=$(awk -v now="$now" -v before="$before" -v most=$percent_max 'BEGIN {
        more = (now / before - 1) * 100
        note = (more > most) ? ", FAILED" : (more < -most) ? ", less: --write takes it in" : ""
        printf "%+.1f %%%s", more, note
    }')
    echo "instructions: $workload: $now an operation, $before known: $verdict"
    if [[ $verdict == *FAILED && -z $write ]]; then failed=1; fi
done

if [[ -n $write ]]; then
    # Other compilers' lines stay.
    { grep -vF "$compiler: " "$known" || true; printf '%s\n' "${lines[@]}"; } >"$work/known"
    cp "$work/known" "$known"
    echo "instructions: written to $known"
fi
if [[ $failed -ne 0 ]]; then
    echo "instructions: FAILED, more than $percent_max % above what was known" >&2
    exit 1
fi
