#!/usr/bin/env bash
# The main job, on real input and in little memory: crawls the documentation of the Rust toolchain at 100 tasks, both
# processes in one memory cgroup (v1 or v2, where this user may make one), and then under `ulimit -v`; fails unless each run
# counts every page. Then the same memory without a bound, which is expected to fail. Prints the figures of the README.
set -euo pipefail
cd "$(dirname "$0")/.."

tasks=100
memory_mib=${CRAWL_MEMORY_MIB:-32}   # of both processes together, in the cgroup
address_space_mib=${CRAWL_ADDRESS_SPACE_MIB:-32} # of each process, under ulimit
peak_mib_max=48

docs="$(rustc --print sysroot)/share/doc/rust/html"
if [ ! -f "$docs/index.html" ]; then
    echo "skipped: the toolchain came without its documentation ($docs)"
    exit 0
fi
cargo build --release --quiet -p anteroom-examples --example crawl
crawl="${CARGO_TARGET_DIR:-target}/release/examples/crawl"

field() { sed -E "s/.*\"$1\": ?([0-9.]+).*/\1/" <<<"$2"; }

check() { # how, json line
    local pages peak
    pages=$(field pages "$2")
    peak=$(($(field memory_peak_bytes "$2") / 1048576))
    echo "$1: $pages pages, $(field errors "$2") errors, peak $peak MiB, $(field wall_s "$2") s"
    [ "$pages" -eq "$want" ] && [ "$(field errors "$2")" -eq 0 ] && [ "$peak" -le "$peak_mib_max" ]
}

line=$("$crawl" --json --max-tasks 100000 2>/dev/null | tail -n 1)
want=$(field pages "$line")
echo "with room for all: $want pages, peak $(($(field memory_peak_bytes "$line") / 1048576)) MiB"
[ "$want" -gt 30000 ]

line=$("$crawl" --json --max-tasks $tasks 2>/dev/null | tail -n 1)
check "$tasks tasks" "$line"

line=$(ulimit -v $((address_space_mib * 1024)); "$crawl" --json --max-tasks $tasks 2>/dev/null | tail -n 1)
check "$tasks tasks, ulimit -v $address_space_mib MiB" "$line"
if (ulimit -v $((address_space_mib * 1024)); "$crawl" --json --unbounded) >/dev/null 2>&1; then
    echo "--unbounded, ulimit -v $address_space_mib MiB: finished too"
else
    echo "--unbounded, ulimit -v $address_space_mib MiB: failed, as expected"
fi

# A group of our own, below the one that this shell is in.
group=
if [ -w /sys/fs/cgroup/memory ]; then
    group=/sys/fs/cgroup/memory/anteroom-crawl-$$
    limit=memory.limit_in_bytes
elif [ -w /sys/fs/cgroup ] && grep -qw memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null; then
    group=/sys/fs/cgroup/anteroom-crawl-$$
    limit=memory.max
fi
if [ -z "$group" ] || ! mkdir "$group" 2>/dev/null; then
    echo "no memory cgroup: it takes the right to make one under /sys/fs/cgroup, and the memory controller"
    exit 0
fi
trap 'rmdir "$group" 2>/dev/null || true' EXIT
echo $((memory_mib * 1048576)) >"$group/$limit"
line=$(sh -c "echo \$\$ >'$group/cgroup.procs'; exec '$crawl' --json --max-tasks $tasks 2>/dev/null" | tail -n 1)
check "$tasks tasks, memory cgroup of $memory_mib MiB for both processes" "$line"
if sh -c "echo \$\$ >'$group/cgroup.procs'; exec timeout 300 '$crawl' --json --unbounded" >/dev/null 2>&1; then
    echo "--unbounded, memory cgroup of $memory_mib MiB: finished too"
else
    echo "--unbounded, memory cgroup of $memory_mib MiB: killed or failed, as expected"
fi
