#!/bin/sh
# Installs what the build needs beside the Rust toolchain, says so, and says how long the first build takes.
# Asks nothing: as root it installs, else it uses sudo. Safe to run again; then it is silent.
set -eu

rust_needed=88

has() { command -v "$1" >/dev/null 2>&1; }

has_libclang() {
    if [ -n "${LIBCLANG_PATH:-}" ]; then return 0; fi
    for file in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib*/libclang*.so* \
        /usr/local/lib/libclang* /opt/homebrew/opt/llvm/lib/libclang.dylib \
        /Library/Developer/CommandLineTools/usr/lib/libclang.dylib; do
        # libclang-cpp is another library, often there without this one.
        case "$file" in *libclang-cpp*) continue ;; esac
        if [ -e "$file" ]; then return 0; fi
    done
    return 1
}

has_faketime() {
    for file in /usr/lib/*/faketime/libfaketime.so.1; do
        if [ -e "$file" ]; then return 0; fi
    done
    return 1
}

missing=""
has_libclang || missing="$missing libclang-dev"
has c++ || has g++ || has clang++ || missing="$missing g++"
has make || missing="$missing make"
has protoc || missing="$missing protobuf-compiler"
# Only a test with jumping clocks needs it, and does without where there is none.
if has apt-get; then has_faketime || missing="$missing libfaketime"; fi

if ! has cargo; then
    echo "Rust is not installed. Get it from https://rustup.rs (1.$rust_needed or later), then run make again." >&2
    exit 1
fi
minor=$(rustc --version | cut -d. -f2)
if [ "$minor" -lt "$rust_needed" ]; then
    echo "Rust 1.$minor is too old, 1.$rust_needed is needed. Update it with: rustup update stable" >&2
    exit 1
fi

if [ -n "$missing" ]; then
    if ! has apt-get; then
        echo "The build needs: a C++ compiler, make, libclang and protoc. Missing here (names of Debian):$missing" >&2
        case "$(uname -s)" in
            Darwin) echo "On macOS: xcode-select --install; brew install llvm protobuf" >&2 ;;
            *)
                echo "On Fedora: dnf install clang-devel gcc-c++ make protobuf-compiler" >&2
                echo "On Arch:   pacman -S clang gcc make protobuf" >&2
                echo "On Alpine: apk add clang-dev g++ make protobuf linux-headers" >&2
                ;;
        esac
        exit 1
    fi
    echo "Installing with apt-get, for the build of RocksDB and of the Raft messages, and for a test of clocks:$missing" >&2
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        if ! has sudo; then
            echo "This needs root and there is no sudo. As root: apt-get install -y$missing" >&2
            exit 1
        fi
        as_root="sudo"
    fi
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
    # $missing is a list of words.
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
fi

# The long part of the first build is RocksDB: about 40 core-minutes.
target="${CARGO_TARGET_DIR:-target}"
for built in "$target"/debug/build/librocksdb-sys-*/out/librocksdb.a; do
    if [ -e "$built" ]; then exit 0; fi
done
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
minutes=$((40 / cores + 3))
cat >&2 <<NOTE
First build on this machine. It compiles RocksDB (C++), which takes about 40 core-minutes:
about $minutes minutes on these $cores cores. This happens once; the result is kept in
  $target
and serves every later build, of other clones too.
NOTE
