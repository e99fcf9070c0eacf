#!/usr/bin/env bash
# Installs what the examples need, and builds those that are built, in a cache outside of the clone: setup.sh CACHE LANGUAGE
# Prints why and ends with 75 where the toolchain of the language, or the way to its packages, is missing: that is
# skipped, not failed.
set -euo pipefail

cache=$1
language=$2
examples=$(cd "$(dirname "$0")/../../examples" && pwd)
skip() {
    echo "$1"
    exit 75
}
# Installs, or says in one line why that cannot be done here.
install() {
    local said
    said=$("$@" 2>&1) || skip "its packages cannot be installed: $(echo "$said" | grep -iE -m 1 'error')"
}

mkdir -p "$cache"
case $language in
python)
    command -v python3 >/dev/null || skip "python3 is not installed"
    python3 -c 'import venv, ensurepip' 2>/dev/null || skip "python3 has no venv"
    wanted="dapr==1.18.3 dapr-ext-fastapi==1.18.3 uvicorn==0.54.0"
    if [ "$(cat "$cache/python/wanted" 2>/dev/null)" != "$wanted" ]; then
        python3 -m venv "$cache/python"
        # shellcheck disable=SC2086 # words, one for each package
        install "$cache/python/bin/pip" install --quiet --disable-pip-version-check $wanted
        echo "$wanted" >"$cache/python/wanted"
    fi
    ;;
javascript)
    command -v node >/dev/null || skip "node is not installed"
    command -v npm >/dev/null || skip "npm is not installed"
    wanted="@dapr/dapr@3.17.0"
    if [ "$(cat "$cache/javascript/wanted" 2>/dev/null)" != "$wanted" ]; then
        mkdir -p "$cache/javascript"
        echo '{"private": true}' >"$cache/javascript/package.json"
        install npm --prefix "$cache/javascript" install --no-audit --no-fund "$wanted"
        echo "$wanted" >"$cache/javascript/wanted"
    fi
    ;;
java)
    command -v javac >/dev/null || skip "no JDK is installed"
    command -v mvn >/dev/null || skip "mvn is not installed"
    # Copies the packages to the classes, so it has fetched them.
    install mvn -q -B -f "$examples/java" process-resources "-Dout=$cache/java"
    mvn -q -B -f "$examples/java" compile "-Dout=$cache/java" >&2
    ;;
go)
    command -v go >/dev/null || skip "go is not installed"
    mkdir -p "$cache/go"
    install go -C "$examples/go" mod download
    go -C "$examples/go" build -o "$cache/go/" ./... >&2
    ;;
rust)
    command -v cargo >/dev/null || skip "cargo is not installed"
    install cargo fetch --quiet --locked --manifest-path "$examples/rust/Cargo.toml"
    cargo build --quiet --locked --manifest-path "$examples/rust/Cargo.toml" --target-dir "$cache/rust" >&2
    ;;
*)
    echo "no such language: $language" >&2
    exit 2
    ;;
esac
