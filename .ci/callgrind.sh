# Runs callgrind for the scripts that count instructions; they source this. It needs `set -euo pipefail` and $work, a
# directory of theirs.

# Installs those that are missing: pairs of a command and its package.
need() {
    local missing=()
    while [[ $# -gt 0 ]]; do
        command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    if [[ ${#missing[@]} -gt 0 ]]; then
        apt-get update -qq
        apt-get install -y -qq "${missing[@]}" >/dev/null
    fi
}

# Where a release build puts its programs.
release_dir() {
    echo "$(cargo metadata --format-version 1 --no-deps | grep -o '"target_directory":"[^"]*"' | cut -d'"' -f4)/release"
}

# Counts what a program executes, into the file `profile`; options of callgrind come before a `--`.
callgrind() { # profile, options..., --, program...
    local profile=$1 options=()
    shift
    while [[ $1 != -- ]]; do
        options+=("$1")
        shift
    done
    shift
    valgrind --tool=callgrind "${options[@]}" --callgrind-out-file="$profile" "$@" >/dev/null 2>"$work/log" ||
        { cat "$work/log" >&2; exit 1; }
}
