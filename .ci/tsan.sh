#!/usr/bin/env bash
# ThreadSanitizer over the unit tests of the limiter and the runtime, and over the black-box tests.
#
# It must see the standard library's own synchronisation, else it reports what `thread::spawn` and `Arc` have ordered: the
# standard library is built from source, instrumented like the rest, which takes about two minutes, once. For that, a nightly
# toolchain with `rust-src` will do. Without one, a compiler of Debian's with its source and ThreadSanitizer's runtime is
# unpacked below the target directory; nothing is installed. Where neither can be had, a line says so.
#
# `anteroom_tsan` is for `fence` (see runtime/src/sync.rs). `anteroom_asan` goes with it for what it does under any sanitizer:
# each body goes back to the allocator, whose `free` is then an access that can race; tests of this process's own memory rest,
# and long ones are shorter.
#
# Arguments go to `cargo test`, such as `-p anteroom-tests --test foreign`; without any, all of them run but those that `skipped`
# names, and first a race that must be reported. No report is suppressed.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-gnu
if [[ $(rustc -vV | awk '/^host:/ { print $2 }') != "$target" ]]; then
    echo "tsan: skipped: only tried on $target"
    exit 0
fi

export CARGO_INCREMENTAL=0 RUST_BACKTRACE=0
target_dir=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)/tsan
root=$target_dir/root

# What nobody needs to see under ThreadSanitizer.
skipped=(
    allocation memory worst_case      # measure memory, which is not the program's own here; empty under `anteroom_asan`
    invariants layering               # read source files
    in_place_blocks limiter_timers    # no second thread
    admission bugs bytes clock heap rate with
)

# Single threads that take a minute or more where nothing is optimised and each access is looked at; `must_end` gives them one.
long=(
    every_small_world_of_groups_ends_at_every_limit
    a_hundred_thousand_nodes_end_at_limit_8
    a_chain_of_a_hundred_thousand_is_cancelled_and_dropped_without_recursion
    a_parent_forgets_a_million_children
)

flags="-Zsanitizer=thread --cfg anteroom_tsan --cfg anteroom_asan"

# Debian's compiler, its source, and the runtime of ThreadSanitizer that fits its LLVM, from whatever archive this system has.
unpack() {
    local state=$target_dir/apt version shared llvm major apt
    if [[ -e $root/complete ]]; then return; fi
    for tool in apt-get apt-cache dpkg; do command -v $tool >/dev/null || return 1; done
    [[ $(dpkg --print-architecture) == amd64 ]] || return 1
    rm -rf "$root"
    mkdir -p "$root" "$state/lists/partial" "$state/cache/archives/partial"
    apt=(-qq -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o APT::Sandbox::User=root)
    # One archive that cannot be read need not matter; what is found is enough or not.
    apt-get "${apt[@]}" update 2>/dev/null || true
    version=$(apt-cache "${apt[@]}" madison rustc-web 2>/dev/null | awk 'NR == 1 { print $3 }')
    [[ -n $version ]] || return 1
    shared=libstd-rust-web-$(cut -d. -f1,2 <<<"$version")
    llvm=$(apt-cache "${apt[@]}" show "$shared=$version" 2>/dev/null | grep -o 'libllvm[0-9]*' | head -n 1)
    major=${llvm#libllvm}
    (cd "$state/cache" && apt-get "${apt[@]}" download "rustc-web=$version" "$shared=$version" \
        "libstd-rust-web-dev=$version" "rust-web-src=$version" "$llvm" "libclang-rt-$major-dev" >/dev/null) || return 1
    for package in "$state/cache"/*.deb; do dpkg -x "$package" "$root"; done
    rm -rf "$state"
    # The link to the source is absolute, for an installed system.
    ln -sfn "../../../src/$(basename "$root"/usr/src/rustc-*)" "$root/usr/lib/rustlib/src/rust"
    touch "$root/complete"
}

# Sets what cargo needs to build the standard library under ThreadSanitizer.
prepare() {
    local toolchain sysroot llvm runtime
    for toolchain in $(rustup toolchain list 2>/dev/null | grep -o '^nightly[^ ]*' || true); do
        sysroot=$(rustc "+$toolchain" --print sysroot) || continue
        if [[ -e $sysroot/lib/rustlib/src/rust/library/Cargo.lock ]]; then
            export RUSTUP_TOOLCHAIN=$toolchain
            return
        fi
    done
    unpack || return 1
    llvm=$(echo "$root"/usr/lib/llvm-*)
    runtime=$(find "$llvm/lib/" -name libclang_rt.tsan-x86_64.a)
    sysroot=$(rustc --print sysroot)
    export RUSTC_BOOTSTRAP=1 RUSTC=$root/usr/bin/rustc RUSTDOC=$root/usr/bin/rustdoc
    export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$llvm/lib
    flags+=" -Zexternal-clangrt -Clink-arg=-B$sysroot/lib/rustlib/$target/bin/gcc-ld -Clink-arg=-fuse-ld=lld"
    flags+=" -Clink-arg=-Wl,--whole-archive,$runtime,--no-whole-archive -Clink-arg=-Wl,--export-dynamic"
    flags+=" -Clink-arg=-lpthread -Clink-arg=-ldl -Clink-arg=-lm -Clink-arg=-lrt -Clink-arg=-lstdc++"
}

if ! prepare; then
    echo "tsan: skipped: it needs a nightly toolchain with rust-src, or Debian's archive"
    exit 0
fi

export RUSTFLAGS="$flags ${RUSTFLAGS:-}"
export CARGO_TARGET_DIR=$target_dir/build
# An older llvm-symbolizer, which it would look for, need not understand what this compiler writes.
export TSAN_OPTIONS=external_symbolizer_path=$(command -v addr2line || true):second_deadlock_stack=1:${TSAN_OPTIONS:-}
build=(-Zbuild-std --target "$target" --all-features)

test_all() {
    cargo test --quiet "${build[@]}" "$@"
}

if [[ $# -gt 0 ]]; then
    test_all "$@"
    exit
fi

# First that the tool sees what it is for, and nothing else: a number that another thread reads is published by a relaxed
# store, which must be reported, with the line, or by a release, which must not.
cargo build --quiet "${build[@]}" -p anteroom-tests --bin broken
broken() { "$CARGO_TARGET_DIR/$target/debug/broken" "$1" >"$target_dir/broken.log" 2>&1; }
if broken race || ! grep -q "WARNING: ThreadSanitizer: data race" "$target_dir/broken.log" ||
    ! grep -q "bin/broken.rs:[0-9]" "$target_dir/broken.log"; then
    echo "tsan: FAILED, blind to a race" >&2
    exit 1
fi
if ! broken no-race; then
    cat "$target_dir/broken.log"
    echo "tsan: FAILED, it reports what is no race" >&2
    exit 1
fi

tests=()
for file in tests/tests/*.rs; do
    name=$(basename "$file" .rs)
    [[ " ${skipped[*]} " == *" $name "* ]] || tests+=(--test "$name")
done
# Each line of results counts those of one binary.
if ! test_all --no-fail-fast -p anteroom-limiter -p anteroom -p anteroom-tests --lib "${tests[@]}" \
    -- $(printf -- '--skip %s ' "${long[@]}") 2>&1 | tee "$target_dir/log"; then
    echo "tsan: FAILED" >&2
    exit 1
fi
if grep -q "WARNING: ThreadSanitizer" "$target_dir/log"; then
    echo "tsan: FAILED, a process that a test started has reported" >&2
    exit 1
fi
awk '/^test result: ok/ { sum += $4; files++ } END { printf "tsan: no report; %d tests of %d binaries ran\n", sum, files }' \
    "$target_dir/log"
