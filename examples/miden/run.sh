#!/usr/bin/env bash
# Miden's published remote prover and client, attested in each way, and each attack refused. Needs Rust, a C compiler and
# the package registry. The first run builds Miden, which takes a while; CARGO_TARGET_DIR says where, MIDEN_TOOLS where
# the prover is installed.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

CARGO_TARGET_DIR="$(realpath -m "${CARGO_TARGET_DIR:-$here/target}")"
export CARGO_TARGET_DIR
tools="$(realpath -m "${MIDEN_TOOLS:-$CARGO_TARGET_DIR/miden}")"
cd "$here"
step() { printf '\n=== %s (%ss)\n' "$*" "$SECONDS"; }

step "Miden's remote prover, as published"
cargo install --quiet --locked --root "$tools" miden-remote-prover@0.15.2

step "tower-attest"
cargo build --quiet --locked --release --manifest-path ../../Cargo.toml --features cli --bin tower-attest

step "the wallet"
cargo build --quiet --locked --release --package demo

step "what it adds to the client's dependencies"
./dependencies.sh

# `timeout` puts it in a group of its own with all that it starts. Whatever ends this script ends the group: told to end, the
# prover would finish its proof first.
step "run"
files="$(mktemp -d)"
TMPDIR="$files" timeout --kill-after=10 1800 "$CARGO_TARGET_DIR/release/demo" \
  --miden-remote-prover "$tools/bin/miden-remote-prover" \
  --tower-attest "$CARGO_TARGET_DIR/release/tower-attest" "$@" &
demo=$!
trap 'kill -KILL -- "-$demo" 2>/dev/null || true; rm -rf "$files"' EXIT
wait "$demo"
