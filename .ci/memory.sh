#!/usr/bin/env bash
# A crawl that finds its own limit in a memory cgroup (v1 or v2, where this user may make one). Its pages are of 1 KiB to
# 4 MiB, read whole and kept for 300 ms, and nobody says how many at once: `--memory auto` has to find that out, use most of
# what the group may have, not be killed, and give back what it had. The server is outside of the group. Then the same on a
# site that misleads it: one small page, and behind it only large ones; then with `--memory` alone; and then without any
# limit, which is expected to be killed. Prints the figures of the README.
set -euo pipefail
cd "$(dirname "$0")/.."

limits_mib=(32 64 400)
folders=${CRAWL_FOLDERS:-200}
used_percent_min=70 # of soft, which is 80 % of the limit
idle_mib_max=4      # more than the process had before its first page
linger=1000         # ms of rest after the crawl
how=(--whole --keep 300 --json)

cargo build --release --quiet -p anteroom-examples --example crawl
crawl=$(realpath "${CARGO_TARGET_DIR:-target}/release/examples/crawl")

# A group of our own, below the one that this shell is in.
group=
if [ -w /sys/fs/cgroup/memory ]; then
    group=/sys/fs/cgroup/memory/anteroom-memory-$$
    limit=memory.limit_in_bytes usage=memory.usage_in_bytes inactive=total_inactive_file events=memory.oom_control
elif [ -w /sys/fs/cgroup ] && grep -qw memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null; then
    group=/sys/fs/cgroup/anteroom-memory-$$
    limit=memory.max usage=memory.current inactive=inactive_file events=memory.events
fi
if [ -z "$group" ] || ! mkdir "$group" 2>/dev/null; then
    echo "no memory cgroup: it takes the right to make one under /sys/fs/cgroup, and the memory controller"
    exit 0
fi
# Killed, not swapped out, or nothing would be shown.
[ ! -e "$group/memory.swap.max" ] || echo 0 >"$group/memory.swap.max"
scratch=$(mktemp -d)
servers=()
cleanup() {
    for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done
    rm -rf "$scratch"
    rmdir "$group" 2>/dev/null || true
}
trap cleanup EXIT

page() { # file, KiB
    {
        echo "<!DOCTYPE html><title>A page</title><a href=/index.html>index</a><p>"
        yes 'Nobody knows how long it is before its head is here.' | head -c $(($2 * 1024 - 80)) || true
    } >"$1"
}

# Folders of 32 pages, most of them small and most of the bytes in few. All folders are links to the same files.
various=$scratch/various
mkdir -p "$various/0"
n=0
for sizes in "10 1" "6 2" "5 4" "4 16" "3 64" "2 256" "1 1024" "1 4096"; do
    read -r count kib <<<"$sizes"
    for ((i = 0; i < count; i++)); do
        page "$various/0/$n.html" "$kib"
        n=$((n + 1))
    done
done
for ((folder = 1; folder < folders; folder++)); do cp -rl "$various/0" "$various/$folder"; done
for ((folder = 0; folder < folders; folder++)); do
    for ((i = 0; i < n; i++)); do echo "<a href=\"$folder/$i.html\">$i</a>"; done
done >"$various/index.html"
various_pages=$((folders * n + 1))

# 300 pages of 1 MiB, and an index from which nothing of the kind can be learned.
large=$scratch/large
mkdir "$large"
page "$large/0.html" 1024
for ((i = 1; i < 300; i++)); do ln "$large/0.html" "$large/$i.html"; done
for ((i = 0; i < 300; i++)); do echo "<a href=\"$i.html\">$i</a>"; done >"$large/index.html"
large_pages=301

serve() { # folder; says where in $connect
    local words=$scratch/serve-${#servers[@]}
    mkfifo "$words.in"
    "$crawl" --serve --site "$1" <"$words.in" >"$words" 2>/dev/null &
    servers+=($!)
    # The server ends with its standard input, so with this shell.
    exec {stdin}>"$words.in"
    until [ -s "$words" ]; do sleep 0.01; done
    connect=$(sed -E 's/^listening //; s/ /,/g' "$words")
}
serve "$various"
various_at=$connect
serve "$large"
large_at=$connect
echo "$various_pages pages of 1 KiB to 4 MiB, together $(du -slm "$various" | cut -f1) MiB ($(du -sm "$various" | cut -f1) on disk)"

field() { sed -E "s/.*\"$1\": ?([0-9.]+).*/\1/" <<<"$2"; }
mib() { echo $((($1 + 524288) / 1048576)); }

# What the group uses, without the files that the kernel can drop at once.
group_used() {
    local key value
    read -r used <"$group/$usage"
    while read -r key value; do
        if [ "$key" = "$inactive" ]; then used=$((used - value)); fi
    done <"$group/memory.stat"
}

# What a process has in memory; nothing if it has ended.
resident() { # process
    local key value
    used=
    while read -r key value _; do
        if [ "$key" = VmRSS: ]; then used=$((value * 1024)); fi
    done <"/proc/$1/status"
}

oom_kills() { sed -n 's/^oom_kill //p' "$group/$events"; }

# Runs a crawl and samples what is used every 50 ms. Sets: code, line, peak, mean (of the middle half of the crawl).
run() { # group or alone, addresses, options...
    local where=$1 connect=$2 all=() used=
    shift 2
    if [ "$where" = group ]; then
        sh -c "echo \$\$ >'$group/cgroup.procs'; exec \"\$@\"" sh "$crawl" "${how[@]}" --connect "$connect" "$@" \
            >"$scratch/line" 2>"$scratch/words" &
    else
        "$crawl" "${how[@]}" --connect "$connect" "$@" >"$scratch/line" 2>"$scratch/words" &
    fi
    local process=$!
    while kill -0 "$process" 2>/dev/null; do
        if [ "$where" = group ]; then group_used; else resident "$process"; fi 2>/dev/null || true
        if [ -n "$used" ]; then all+=("$used"); fi
        sleep 0.05
    done
    code=0
    wait "$process" || code=$?
    line=$(tail -n 1 "$scratch/line")
    peak=0 mean=0
    for used in "${all[@]}"; do if [ "$used" -gt "$peak" ]; then peak=$used; fi; done
    if [ "$code" -eq 0 ]; then
        # Without the rest at the end.
        local wall count i sum=0 from
        wall=$(field wall_s "$line" | awk '{ printf "%d", $1 * 1000 }')
        count=$((${#all[@]} * wall / (wall + linger)))
        from=$((count / 4)) count=$(((count + 1) / 2))
        for ((i = from; i < from + count; i++)); do sum=$((sum + all[i])); done
        if [ "$count" -gt 0 ]; then mean=$((sum / count)); fi
    fi
}

failed=0
fail() {
    echo "  FAILED: $1"
    failed=1
}

check() { # what, limit in MiB, pages
    local soft=$(($2 * 1048576 * 8 / 10)) start idle
    if [ "$code" -ne 0 ]; then
        cat "$scratch/words"
        echo "$1:"
        fail "exit code $code"
        return
    fi
    start=$(field memory_start_bytes "$line") idle=$(field memory_idle_bytes "$line")
    echo "$1:"
    echo "  $(field pages "$line") pages in $(field wall_s "$line") s, at most $(field live_tasks_peak "$line") at once"
    echo "  used: peak $(mib "$peak") MiB ($((peak * 100 / soft)) % of soft, $(mib $soft) MiB), mean $(mib "$mean") MiB;" \
        "pages declared $(mib "$(field in_use_peak_bytes "$line")") MiB"
    echo "  resident: $(mib "$start") MiB before the first page, $(mib "$idle") MiB $linger ms after the last"
    [ "$(field pages "$line")" -eq "$3" ] || fail "of $3 pages"
    [ "$(field errors "$line")" -eq 0 ] || fail "$(field errors "$line") errors"
    [ $((peak * 100)) -ge $((soft * used_percent_min)) ] || fail "less than $used_percent_min % of soft was used"
    [ $((idle - start)) -le $((idle_mib_max * 1048576)) ] || fail "more than $idle_mib_max MiB were not given back"
}

in_group() { # what, limit in MiB, addresses, pages
    local kills
    # What is left of the run before counts as files, and may go.
    [ ! -e "$group/memory.force_empty" ] || echo 0 >"$group/memory.force_empty" || true
    echo $(($2 * 1048576)) >"$group/$limit"
    kills=$(oom_kills)
    run group "$3" --memory auto --linger "$linger"
    check "$1" "$2" "$4"
    [ "$(oom_kills)" = "$kills" ] || fail "killed"
}

for limit_mib in "${limits_mib[@]}"; do
    in_group "--memory auto in a group of $limit_mib MiB" "$limit_mib" "$various_at" "$various_pages"
done
in_group "--memory auto in a group of 64 MiB, all pages of 1 MiB" 64 "$large_at" "$large_pages"

run alone "$various_at" --memory 64MiB --linger "$linger"
check "--memory 64MiB without a group" 64 "$various_pages"

kills=$(oom_kills)
run group "$various_at" --unbounded 2>/dev/null # where bash tells of the kill
if [ "$code" -ne 0 ] && [ "$(oom_kills)" != "$kills" ]; then
    echo "--unbounded in a group of 64 MiB: killed, as expected"
else
    echo "--unbounded in a group of 64 MiB: exit code $code, peak $(mib "$peak") MiB:"
    fail "not killed"
fi
exit "$failed"
