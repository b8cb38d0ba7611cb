#!/usr/bin/env bash
# An idle server makes no system call at all: ten seconds of strace, after it has been in use (bugs.md 51).
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${IDLE_SECONDS:-10}

if ! command -v strace >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq strace >/dev/null
fi

cargo build --quiet --release -p anteroom-tests --bin idle
target_dir=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)

work=$(mktemp -d)
server=
cleanup() {
    if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap cleanup EXIT

"$target_dir/release/idle" >"$work/out" &
server=$!
for _ in $(seq 100); do
    if grep -q idle "$work/out"; then break; fi
    sleep 0.1
done
grep -q idle "$work/out" || { echo "idle: the server did not come up" >&2; exit 1; }
sleep 0.5

# Attached while it waits: the call that it is inside of is restarted by the attaching itself, and is shown with the time at
# which that was. Whatever begins later was begun by the server.
timeout --preserve-status -s INT "$seconds" strace -f -qq -ttt -p "$server" -o "$work/trace" || true
kill -0 "$server" || { echo "idle: the server ended" >&2; exit 1; }

calls=$(grep -c '(' "$work/trace" || true)
waits=$(grep -c 'epoll_wait(' "$work/trace" || true)
echo "idle: $calls system calls seen in $seconds s, $waits of them the wait that it was found in"
if [[ $calls -ne 1 || $waits -ne 1 ]]; then
    cat "$work/trace"
    echo "idle: FAILED, it did more than to wait" >&2
    exit 1
fi

# And the trace would have shown a wake-up: the same server, woken once by a connection.
port=$(awk '$4 == "0A" && $2 ~ /^0100007F:/ { split($2, part, ":"); print part[2] " " $10 }' /proc/net/tcp |
    while read -r hex inode; do
        if [[ -n $(find "/proc/$server/fd" -lname "socket:\[$inode\]") ]]; then echo $((16#$hex)); fi
    done)
timeout --preserve-status -s INT 2 strace -f -qq -ttt -p "$server" -o "$work/trace" &
tracer=$!
sleep 1
exec 3<>"/dev/tcp/127.0.0.1/$port"
exec 3>&-
wait "$tracer" || true
grep -q 'accept4\?(' "$work/trace" || { cat "$work/trace"; echo "idle: the trace is blind" >&2; exit 1; }
echo "idle: zero wake-ups in $seconds s, and a connection after them was seen"
