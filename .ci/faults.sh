#!/usr/bin/env bash
# Faults that only the system can make: strace puts them into the calls of `faulty`, one kind a run, and what comes of it must
# be what stands here. tests/faults.md tells why; a test compares the two.
#
# Arguments are names of cells; without any, all of them run.
set -euo pipefail
cd "$(dirname "$0")/.."

only=" $* "

if ! command -v strace >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq strace >/dev/null
fi

cargo build --quiet --release -p anteroom-tests --bin faulty
target_dir=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)
faulty=$target_dir/release/faulty

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export RUST_BACKTRACE=0

cells=0
failed=0

# cell NAME MODE CALL WHAT WHEN EXPECTED [OPTION...]: WHAT and WHEN are strace's. Without -f, which comes as an OPTION where it
# must, only the thread of the runtime meets the fault, and not its peers.
cell() {
    local name=$1 mode=$2 call=$3 what=$4 when=$5 expected=$6 got status=0 injected
    shift 6
    if [[ $only != "  " && $only != *" $name "* ]]; then return; fi
    timeout 60 strace -qq -o "$work/trace" "$@" -e "trace=$call" -e "inject=$call:$what:when=$when" \
        "$faulty" "$mode" >"$work/out" 2>"$work/err" || status=$?
    injected=$(grep -c INJECTED "$work/trace" || true)
    if [[ $expected == panic:* ]]; then
        got="exit $status: $(grep -oF "${expected#panic: }" "$work/err" | head -n 1 || true)"
        expected="exit 101: ${expected#panic: }"
    else
        got=$(cat "$work/out")
        if [[ $status -ne 0 ]]; then got="exit $status: $got"; fi
    fi
    report "$name" "$got" "$expected" "$injected times"
    if [[ $injected -eq 0 ]]; then
        echo "faults: FAILED, $name: the fault was never put in" >&2
        failed=1
    fi
}

report() { # name, got, expected, remark
    cells=$((cells + 1))
    if [[ $2 == "$3" ]]; then
        printf 'faults: ok      %-28s %s (%s)\n' "$1" "$2" "$4"
    else
        printf 'faults: FAILED  %-28s %s (%s)\n                expected: %s\n' "$1" "$2" "$4" "$3"
        tail -n 5 "$work/err" 2>/dev/null || true
        failed=1
    fi
}

# An interrupted call is made again: no caller sees EINTR.
all_served="served 20, cut off 0, accept: none, streams: none, sources 0, files +0"
cell eintr-wait        serve epoll_wait error=EINTR 1+2 "$all_served"
cell eintr-accept      serve accept4    error=EINTR 1+2 "$all_served"
cell eintr-read        serve recvfrom   error=EINTR 1+2 "$all_served"
cell eintr-write       serve sendto     error=EINTR 1+2 "$all_served"
cell eintr-peer-name   connect getpeername error=EINTR 1 "connect: ok, sources +0, files +0, then ok, sources +0, files +0"
# Of the system a non-blocking connect is never interrupted; should it be, it is an error and nothing is left.
cell eintr-connect     connect connect  error=EINTR 1 "connect: EINTR, sources +0, files +0, then ok, sources +0, files +0"

# A spurious EAGAIN costs a wait for the next edge: no spinning, no byte lost or doubled.
cell eagain-read       storm recvfrom   error=EAGAIN 1..41+2 "storm: ok, spinning: false"
cell eagain-write      storm sendto     error=EAGAIN 1+2 "storm: ok, spinning: false"
cell eagain-doorbell   wake  write      error=EAGAIN 2+2 "wake: 100 heard" -f
# A ring that a signal interrupts is made again; a timer that cannot be set gives way to whole milliseconds.
cell eintr-doorbell    wake  write      error=EINTR 2+2 "wake: 100 heard" -f
cell einval-timerfd-set sleep timerfd_settime error=EINVAL 1+2 "sleep: 20 ended, early 0, timeouts and jobs 40" -f

# What accept says is given to its caller, and the connection is there at the next call.
accept_fails() { echo "served 20, cut off 0, accept: $1, streams: none, sources 0, files +0"; }
cell emfile-accept       serve accept4  error=EMFILE 1..3 "$(accept_fails "EMFILE x3")"
cell enfile-accept       serve accept4  error=ENFILE 1..3 "$(accept_fails "ENFILE x3")"
cell enobufs-accept      serve accept4  error=ENOBUFS 1..3 "$(accept_fails "ENOBUFS x3")"
cell enomem-accept       serve accept4  error=ENOMEM 1..3 "$(accept_fails "ENOMEM x3")"
cell econnaborted-accept serve accept4  error=ECONNABORTED 1..10 "$(accept_fails "ECONNABORTED x10")"
cell eproto-accept       serve accept4  error=EPROTO 1..10 "$(accept_fails "EPROTO x10")"
cell eperm-accept        serve accept4  error=EPERM 1..5 "$(accept_fails "EPERM x5")"
cell ehostunreach-accept serve accept4  error=EHOSTUNREACH 1..5 "$(accept_fails "EHOSTUNREACH x5")"

# A connection that fails ends its own task and no other.
stream_fails() { echo "served 19, cut off 1, accept: none, streams: $1 x1, sources 0, files +0"; }
cell econnreset-read   serve recvfrom   error=ECONNRESET 3 "$(stream_fails ECONNRESET)"
cell etimedout-read    serve recvfrom   error=ETIMEDOUT 3 "$(stream_fails ETIMEDOUT)"
cell ehostunreach-read serve recvfrom   error=EHOSTUNREACH 3 "$(stream_fails EHOSTUNREACH)"
cell epipe-write       serve sendto     error=EPIPE 3 "$(stream_fails EPIPE)"
cell econnreset-write  serve sendto     error=ECONNRESET 3 "$(stream_fails ECONNRESET)"
cell enobufs-write     serve sendto     error=ENOBUFS 3 "$(stream_fails ENOBUFS)"

# A registration that fails leaves neither a file nor an entry (bugs.md 48). The first two are the driver's own.
cell enospc-register-accepted serve epoll_ctl error=ENOSPC 4 \
    "served 19, cut off 1, accept: ENOSPC x1, streams: none, sources 0, files +0"
cell enomem-register-accepted serve epoll_ctl error=ENOMEM 4..6 \
    "served 17, cut off 3, accept: ENOMEM x3, streams: none, sources 0, files +0"
cell enospc-register-connect connect epoll_ctl error=ENOSPC 3 \
    "connect: ENOSPC, sources +0, files +0, then ok, sources +0, files +0"
cell enospc-register-bind bind epoll_ctl error=ENOSPC 3 \
    "bind: ENOSPC, sources +0, files +0, then ok, sources +0, files +0"
cell enomem-register-std take-over epoll_ctl error=ENOMEM 3 "take-over: ENOMEM x1, sources +0, files -40"
cell enotty-nonblocking  take-over ioctl error=ENOTTY 1 "take-over: ENOTTY x1, sources +0, files -40"
cell enoent-deregister   take-over epoll_ctl error=ENOENT 4+2 "take-over: none, sources +0, files -40"

# A connect that fails says why and leaves nothing, at each of its calls.
connect_fails() { echo "connect: $1, sources +0, files +0, then ok, sources +0, files +0"; }
cell emfile-socket        connect socket  error=EMFILE 1 "$(connect_fails EMFILE)"
cell enfile-socket        connect socket  error=ENFILE 1 "$(connect_fails ENFILE)"
cell eafnosupport-socket  connect socket  error=EAFNOSUPPORT 1 "$(connect_fails EAFNOSUPPORT)"
cell enetunreach-connect  connect connect error=ENETUNREACH 1 "$(connect_fails ENETUNREACH)"
cell etimedout-connect    connect connect error=ETIMEDOUT 1 "$(connect_fails ETIMEDOUT)"
cell econnrefused-connect connect connect error=ECONNREFUSED 1 "$(connect_fails ECONNREFUSED)"
cell eaddrnotavail-connect connect connect error=EADDRNOTAVAIL 1 "$(connect_fails EADDRNOTAVAIL)"
# What comes later comes as SO_ERROR: 110 is ETIMEDOUT, 113 EHOSTUNREACH.
cell etimedout-later      connect getsockopt poke_exit=@arg4=6e000000 1 "$(connect_fails ETIMEDOUT)"
cell ehostunreach-later   connect getsockopt poke_exit=@arg4=71000000 1 "$(connect_fails EHOSTUNREACH)"
cell not-yet-connected    connect getpeername error=ENOTCONN 1 "$(connect_fails ok)"

# So does a bind.
bind_fails() { echo "bind: $1, sources +0, files +0, then ok, sources +0, files +0"; }
cell eacces-bind          bind bind       error=EACCES 1 "$(bind_fails EACCES)"
cell enomem-reuse         bind setsockopt error=ENOMEM 1 "$(bind_fails ENOMEM)"
cell eaddrinuse-listen    bind listen     error=EADDRINUSE 1 "$(bind_fails EADDRINUSE)"

# A runtime that cannot be built is an error; the next one can be.
build_fails() { echo "build: $1, files +0, then ok, files +0"; }
cell emfile-epoll         build epoll_create1 error=EMFILE 1 "$(build_fails EMFILE)"
cell enomem-epoll         build epoll_create1 error=ENOMEM 1 "$(build_fails ENOMEM)"
cell enfile-eventfd       build eventfd2  error=ENFILE 1 "$(build_fails ENFILE)"
cell emfile-eventfd       build eventfd2  error=EMFILE 1 "$(build_fails EMFILE)"
cell emfile-duplicate     build fcntl     error=EMFILE 1 "$(build_fails EMFILE)"
cell emfile-timerfd       build timerfd_create error=EMFILE 1 "$(build_fails EMFILE)"
cell enomem-timerfd       build timerfd_create error=ENOMEM 1 "$(build_fails ENOMEM)"
cell enospc-register-eventfd build epoll_ctl error=ENOSPC 1 "$(build_fails ENOSPC)"
cell enomem-register-timerfd build epoll_ctl error=ENOMEM 2 "$(build_fails ENOMEM)"

# A wait that can never work again is a panic that says so, and not a loop.
cell einval-wait          serve epoll_wait error=EINVAL 5 "panic: waiting for events failed: Invalid argument"

# No thread to be had: the job is told, unless another thread can take it.
cell eagain-first-thread  jobs  clone3    error=EAGAIN 1 "jobs: cancelled ok ok ok ok ok, waiting 0"
cell eagain-second-thread jobs  clone3    error=EAGAIN 2 "jobs: ok ok ok ok ok ok, waiting 0"
cell eagain-all-threads   jobs  clone3    error=EAGAIN 1..4 "jobs: cancelled cancelled cancelled cancelled ok ok, waiting 0"
cell eagain-lookup        lookup clone3   error=EAGAIN 1 \
    "lookup: an error that names it, then ok"
# Nor memory for its stack: which of the calls that is, an undisturbed run tells. (Rust aborts for want of a signal stack.)
strace -qq -o "$work/maps" -e trace=mmap "$faulty" jobs >/dev/null
stack=$(grep -n "PROT_NONE.*MAP_STACK" "$work/maps" | head -n 1 | cut -d: -f1)
cell enomem-stack         jobs  mmap      error=ENOMEM "${stack:-0}" "jobs: cancelled ok ok ok ok ok, waiting 0"

# Clocks. The vDSO answers without a system call, so a library in front of libc's moves the clocks instead.
cat >"$work/clocks.c" <<'CLOCKS'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
static _Atomic long reads[2];
static void report(void) { fprintf(stderr, "realtime %ld, monotonic %ld\n", reads[0], reads[1]); }
__attribute__((constructor)) static void begin(void) { atexit(report); }
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (id != CLOCK_REALTIME && id != CLOCK_MONOTONIC) return result;
    long n = ++reads[id == CLOCK_MONOTONIC];
    const char *jump = getenv("CLOCK_JUMP");
    if (id == CLOCK_REALTIME) now->tv_sec += n % 2 ? 1000000000 : -1000000000;
    else if (jump && *jump == '+' && n > 50) now->tv_sec += 3600;
    else if (jump && *jump == '-' && n % 7 == 0) now->tv_sec -= 1;
    return result;
}
CLOCKS
clock_cell() { # name, jump, expected, what the reads must match
    local name=$1 jump=$2 expected=$3 reads=$4 got
    if [[ $only != "  " && $only != *" $name "* ]]; then return; fi
    CLOCK_JUMP=$jump LD_PRELOAD=$work/clocks.so timeout 60 "$faulty" sleep >"$work/out" 2>"$work/err" || true
    got=$(sed -E 's/, early [0-9]+//' "$work/out")
    if [[ -z $jump ]]; then got=$(cat "$work/out"); fi
    report "$name" "$got" "$expected" "reads: $(grep -o 'realtime.*' "$work/err" || echo none)"
    grep -qE "$reads" "$work/err" || { echo "faults: FAILED, $name: the clock was not read as expected" >&2; failed=1; }
}
if ! command -v cc >/dev/null; then
    echo "faults: no C compiler (cc): the three cells of clocks are left out"
else
    cc -shared -fPIC -O1 -o "$work/clocks.so" "$work/clocks.c" -ldl
    # CLOCK_REALTIME jumps by decades at each look; nobody looks.
    clock_cell clock-realtime-jumps  "" "sleep: 20 ended, early 0, timeouts and jobs 40" "realtime 0, monotonic [1-9]"
    # A machine that was suspended; and a clock that goes back, which a monotonic one must not: all timers end, nothing panics.
    clock_cell clock-monotonic-ahead "+" "sleep: 20 ended, timeouts and jobs 40" "monotonic [1-9]"
    clock_cell clock-monotonic-back  "-" "sleep: 20 ended, timeouts and jobs 40" "monotonic [1-9]"
fi
# Waits of the pool are on the monotonic clock too: by default futex's absolute times are, and a flag says otherwise.
cell_trace() { # name, mode, call, must occur, must not occur
    local name=$1 got
    if [[ $only != "  " && $only != *" $name "* ]]; then return; fi
    timeout 60 strace -f -qq -o "$work/trace" -e "trace=$3" "$faulty" "$2" >/dev/null 2>"$work/err"
    got="$(grep -c "$4" "$work/trace" || true) of $4, $(grep -c "$5" "$work/trace" || true) of $5"
    report "$name" "$(sed -E 's/^[1-9][0-9]* /some /' <<<"$got")" "some of $4, 0 of $5" "seen"
}
cell_trace clock-of-pool   jobs  futex          FUTEX_WAIT_BITSET FUTEX_CLOCK_REALTIME
cell_trace clock-of-timers sleep timerfd_create CLOCK_MONOTONIC   CLOCK_REALTIME

if [[ $failed -ne 0 ]]; then
    echo "faults: FAILED, of $cells cells" >&2
    exit 1
fi
echo "faults: $cells cells, each as expected"
