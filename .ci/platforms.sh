#!/usr/bin/env bash
# The limiter and the runtime on other targets: 32-bit ARM and musl are checked, and on 32-bit x86 the tests are run, so that
# what depends on the width of a word (a waker's generation, a token's stamp) has run in both widths.
#
# A target whose standard library is installed is checked by the toolchain at hand. For the others a compiler of Debian's, with
# its standard libraries, is unpacked below the target directory; nothing is installed. Where neither can be had, a line says
# what is missing, and the script goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

arm=armv7-unknown-linux-gnueabihf
x86=i686-unknown-linux-gnu
musl=x86_64-unknown-linux-musl
# What sees the width: all that has to do with wakers, sockets and clocks.
tests=(admission blocking bytes chaos closing faults frames net panics reentrancy runtimes sockets tasks threads time waits)

export CARGO_INCREMENTAL=0 RUST_BACKTRACE=0
target_dir=$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)/platforms
root=$target_dir/root
export CARGO_TARGET_DIR=$target_dir/build

checked=()
missing=()

installed() { [[ -e $(rustc --print sysroot)/lib/rustlib/$1/lib ]]; }

check() { # target, options...
    local target=$1
    shift
    if cargo check --quiet --target "$target" -p anteroom-limiter -p anteroom "$@" &&
        cargo check --quiet --target "$target" -p anteroom --features stealing "$@"; then
        echo "platforms: ok      $target: limiter and runtime compile with $("${RUSTC:-rustc}" --version | cut -d' ' -f1,2)"
        checked+=("$target")
    else
        echo "platforms: FAILED  $target" >&2
        exit 1
    fi
}

# Debian's compiler and its standard libraries, all of one version, from whatever archive this system has.
unpack() {
    local state=$target_dir/apt version shared llvm gcc apt
    if [[ -e $root/complete ]]; then return; fi
    for tool in apt-get apt-cache dpkg; do command -v $tool >/dev/null || return 1; done
    [[ $(dpkg --print-architecture) == amd64 ]] || return 1
    rm -rf "$root"
    mkdir -p "$root" "$state/lists/partial" "$state/cache/archives/partial"
    apt=(-qq -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o APT::Sandbox::User=root
        -o APT::Architectures::=amd64 -o APT::Architectures::=armhf -o APT::Architectures::=i386)
    # Not each part of an archive has each architecture; what is found is enough or not.
    apt-get "${apt[@]}" update 2>/dev/null || true
    version=$(apt-cache "${apt[@]}" madison libstd-rust-web-dev:armhf 2>/dev/null | awk 'NR == 1 { print $3 }')
    [[ -n $version ]] || return 1
    shared=libstd-rust-web-$(cut -d. -f1,2 <<<"$version")
    llvm=$(apt-cache "${apt[@]}" show "$shared=$version" 2>/dev/null | grep -o 'libllvm[0-9]*' | head -n 1)
    gcc=$(gcc -dumpversion 2>/dev/null | cut -d. -f1 || true)
    (cd "$state/cache" && apt-get "${apt[@]}" download "rustc-web=$version" "$shared=$version" \
        "libstd-rust-web-dev=$version" "libstd-rust-web-dev:armhf=$version" "libstd-rust-web-dev:i386=$version" \
        "rust-web-src=$version" "$llvm" \
        libc6-i386 libc6-dev-i386 lib32gcc-s1 "lib32gcc-${gcc:-12}-dev" >/dev/null) || return 1
    for package in "$state/cache"/*.deb; do dpkg -x "$package" "$root"; done
    rm -rf "$state"
    # Absolute links are meant for an installed system.
    ln -sfn ../lib32/ld-linux.so.2 "$root/lib/ld-linux.so.2"
    # A linker for 32 bits that looks for everything below this folder, and a loader from there.
    cat >"$root/cc32" <<LINKER
#!/bin/sh
exec gcc -m32 --sysroot="$root" -B"$root/usr/lib/gcc/x86_64-linux-gnu/${gcc:-12}/32" -B"$root/usr/lib32" \\
    -L"$root/usr/lib/gcc/x86_64-linux-gnu/${gcc:-12}/32" -L"$root/usr/lib32" -L"$root/lib32" \\
    -Wl,--dynamic-linker="$root/lib32/ld-linux.so.2" -Wl,-rpath,"$root/lib32:$root/usr/lib32" "\$@"
LINKER
    chmod +x "$root/cc32"
    touch "$root/complete"
}

with_debian() {
    local llvm
    llvm=$(echo "$root"/usr/lib/llvm-*/lib)
    RUSTC=$root/usr/bin/rustc RUSTDOC=$root/usr/bin/rustdoc \
        LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$llvm "$@"
}

for target in "$arm" "$musl" "$x86"; do
    if installed "$target"; then check "$target"; else missing+=("$target"); fi
done

if [[ ${#missing[@]} -gt 0 ]] && unpack; then
    for target in "${missing[@]}"; do
        # Of musl Debian has no library: it is built from the compiler's source.
        if [[ $target == "$musl" ]]; then
            RUSTC_BOOTSTRAP=1 with_debian check "$target" -Zbuild-std=std,panic_abort
        else
            with_debian check "$target"
        fi
    done
    missing=()
fi

# The tests, where this machine can run what it has linked.
if [[ -e $root/complete ]] && [[ $(uname -m) == x86_64 ]] && command -v gcc >/dev/null; then
    export CARGO_TARGET_I686_UNKNOWN_LINUX_GNU_LINKER=$root/cc32
    run32() { # what, arguments of cargo test
        local what=$1
        shift
        if ! with_debian cargo test --quiet --target "$x86" "$@" >"$target_dir/log" 2>&1; then
            tail -n 60 "$target_dir/log"
            echo "platforms: FAILED  $x86: $what" >&2
            exit 1
        fi
        # Each line of results counts those of one binary.
        echo "platforms: ok      $x86: $(awk '/^test result: ok/ { sum += $4 } END { print sum + 0 }' "$target_dir/log") $what ran"
    }
    run32 "unit tests" -p anteroom-limiter -p anteroom --lib
    run32 "black-box tests" -p anteroom-tests $(printf -- '--test %s ' "${tests[@]}")
elif installed "$x86"; then
    echo "platforms: skipped $x86: its tests, which need a 32-bit C library (gcc-multilib)"
fi

for target in "${missing[@]}"; do
    echo "platforms: skipped $target: no standard library for it; with one, it is" \
        "rustup target add $target && cargo check --target $target -p anteroom-limiter -p anteroom"
done
echo "platforms: ${#checked[@]} targets compile, ${#missing[@]} skipped"
