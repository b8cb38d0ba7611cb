#!/usr/bin/env bash
# What the smallest useful server weighs: an echo server with a task a connection and a read timeout, built for size; and how
# much more memory it takes while it is idle than a program that does nothing. Says how far the first is from its bar, and fails
# above a ceiling, so that it does not grow unnoticed; fails over the bar of the second. The ceiling was raised once, from
# 386,000, for what runs a child in its spawner's place: some 11 KB that every program with a spawn links.
set -euo pipefail
cd "$(dirname "$0")/.."

bytes_bar=345000
bytes_max=395000
resident_kib_max=1229 # 1.2 MiB
samples=5

export CARGO_INCREMENTAL=0
target_dir=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)

work=$(mktemp -d)
running=()
cleanup() {
    for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT

CARGO_PROFILE_RELEASE_OPT_LEVEL=z CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
    CARGO_PROFILE_RELEASE_PANIC=abort CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_DEBUG=0 \
    cargo build --quiet --release --target-dir "$target_dir/size" -p anteroom-tests --bin echo_size --bin resident
cargo build --quiet --release -p anteroom-tests --bin echo_size --bin resident

# Starts a program and waits until it sleeps; its number is then in `pid`.
start() {
    "$1" >/dev/null &
    pid=$!
    running+=("$pid")
    for _ in $(seq 100); do
        if grep -q '^State:.S' "/proc/$pid/status" && [[ ${2:-} == "" || -n $(port_of "$pid") ]]; then return; fi
        sleep 0.05
    done
    echo "size: $1 did not come up" >&2
    exit 1
}

# The port at which a process listens.
port_of() {
    awk '$4 == "0A" && $2 ~ /^0100007F:/ { split($2, part, ":"); print part[2] " " $10 }' /proc/net/tcp |
        while read -r hex inode; do
            if [[ -n $(find "/proc/$1/fd" -lname "socket:\[$inode\]" 2>/dev/null) ]]; then echo $((16#$hex)); fi
        done
}

# What is weighed is a server: it echoes, and closes a connection that is silent.
serves() {
    local port line start=$SECONDS
    port=$(port_of "$1")
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    echo "is anybody there" >&3
    read -r -t 10 line <&3
    [[ $line == "is anybody there" ]] || { echo "size: it does not echo: $line" >&2; exit 1; }
    if read -r -t 30 line <&3 || [[ $((SECONDS - start)) -gt 25 ]]; then echo "size: it has no timeout" >&2; exit 1; fi
    exec 3>&-
}

resident() { awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"; }
median() { sort -n | sed -n "$(((samples + 1) / 2))p"; }
stop() { kill "$1"; wait "$1" 2>/dev/null || true; }

failed=0

small=$target_dir/size/release/echo_size
start "$small" listening
serves "$pid"
stop "$pid"
bytes=$(stat -c %s "$small")
empty=$(stat -c %s "$target_dir/size/release/resident")
echo "size: $bytes bytes, of which an empty program is $empty; at most $bytes_max are allowed"
if [[ $bytes -gt $bytes_bar ]]; then echo "size: the bar of $bytes_bar is missed by $((bytes - bytes_bar)) bytes"; fi
if [[ $bytes -gt $bytes_max ]]; then
    echo "size: FAILED, $((bytes - bytes_max)) bytes too many" >&2
    failed=1
fi

for _ in $(seq $samples); do
    start "$target_dir/release/resident"
    sleep 0.1
    resident "$pid" >>"$work/empty"
    stop "$pid"
    start "$target_dir/release/echo_size" listening
    # Idle after it was in use, which is when memory would have been kept.
    serves "$pid"
    sleep 0.1
    resident "$pid" >>"$work/idle"
    stop "$pid"
done
idle=$(median <"$work/idle")
base=$(median <"$work/empty")
echo "size: $idle KiB resident when idle after use ($(sort -n "$work/idle" | xargs)), an empty program $base KiB" \
    "($(sort -n "$work/empty" | xargs)): $((idle - base)) KiB more, at most $resident_kib_max are allowed"
if [[ $((idle - base)) -gt $resident_kib_max ]]; then
    echo "size: FAILED, $((idle - base - resident_kib_max)) KiB too many" >&2
    failed=1
fi
exit "$failed"
