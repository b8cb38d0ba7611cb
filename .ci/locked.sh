#!/usr/bin/env bash
# The owner of a runtime spawns, wakes, polls, completes and joins without one locked instruction.
#
# Callgrind tells how often each instruction of the program and of its libraries was executed, objdump which of them lock
# the bus: those with a `lock` prefix, an xchg with memory, and mfence. The sum is taken for a number of rounds and for ten
# times as many: what a round costs is the difference, so that setting up and tearing down do not count.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${LOCKED_ROUNDS:-500}

source .ci/callgrind.sh

need valgrind valgrind objdump binutils
if [[ $(uname -m) != x86_64 ]]; then
    echo "locked: only x86_64 has instructions that this script knows"
    exit 0
fi

cargo build --quiet --release -p anteroom-tests --bin locked
program=$(release_dir)/locked

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# All addresses of locked instructions of an object, once.
locked_of() {
    local object=$1 list
    list=$work/$(echo "$object" | tr / _).locked
    if [[ ! -e $list ]]; then
        objdump -d --no-show-raw-insn "$object" 2>/dev/null | awk '
            $2 == "lock" || $3 == "lock" || $2 ~ /^mfence/ || ($2 ~ /^xchg/ && $0 ~ /\(/) {
                sub(":", "", $1); print "0x" $1
            }' >"$list"
    fi
    echo "$list"
}

# How many locked instructions were executed in all; those of each place go to a file.
count() {
    local mode=$1 n=$2 profile=$work/$1.$2 object list
    callgrind "$profile" --dump-instr=yes --compress-pos=no --compress-strings=no -- "$program" "$mode" "$n"
    : >"$profile.places"
    grep '^ob=' "$profile" | cut -d= -f2- | sort -u >"$profile.objects"
    while read -r object; do
        [[ -f $object ]] || continue
        list=$(locked_of "$object")
        # Lines are `address line executions`; those after `calls=` are of what was called, and count there.
        awk -v object="$object" -v list="$list" '
            BEGIN { while ((getline address < list) > 0) locked[address] = 1 }
            /^ob=/ { inside = (substr($0, 4) == object); next }
            /^fn=/ { where = substr($0, 4); next }
            /^calls=/ { skip = 1; next }
            /^0x/ {
                if (skip) { skip = 0; next }
                seen += inside
                if (inside && ($1 in locked)) print $3, where, $1
            }
            END { if (!seen) print "locked: nothing of " object " was seen" > "/dev/stderr" }
        ' "$profile" >>"$profile.places"
    done <"$profile.objects"
    awk '{ sum += $1 } END { print sum + 0 }' "$profile.places"
}

failed=0
# Locked instructions a round, at most: a spawn that waits is claimed by a swap, since its frame may be on another thread.
for row in "plain 0" "local-waits 0" "waits 1"; do
    read -r mode allowed <<<"$row"
    few=$(count "$mode" "$rounds")
    many=$(count "$mode" $((rounds * 10)))
    more=$((many - few))
    most=$((allowed * rounds * 9))
    echo "locked: $mode: $few in $rounds rounds, $many in $((rounds * 10)): $more more, $most allowed"
    if [[ $more -gt $most ]]; then
        sort -rn "$work/$mode.$((rounds * 10)).places" | head -20
        failed=1
    fi
done

# The count would have seen them: a spawn that waits takes one, and more than none.
if [[ $more -lt $((rounds * 9 / 2)) ]]; then
    echo "locked: FAILED, the count is blind: a spawn that waits must show its swap" >&2
    exit 1
fi
if [[ $failed -ne 0 ]]; then
    echo "locked: FAILED" >&2
    exit 1
fi
echo "locked: not one locked instruction a round"
