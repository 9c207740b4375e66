#!/usr/bin/env bash
# What attestation adds to a Miden client's dependencies: packages, and crates that are then there in more versions than
# before. Resolves, and compiles nothing. Fails if a crate is doubled, or if verifying SNP adds more than 25 packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

target="$(rustc -vV | awk '/^host:/ { print $2 }')"
files="$(mktemp -d)"
trap 'rm -rf "$files"' EXIT

# `name version`, one a line, of all that is linked or is a macro of what is linked. Build scripts' own needs are left out.
packages() { cargo tree --quiet --locked --edges normal --prefix none --target "$target" "$@" | awk 'NF { print $1, $2 }' | sort -u; }
# Crates that are there in more than one version, each with their number.
repeated() { awk '{ print $1 }' "$1" | uniq -c | awk '$1 > 1 { print $2 "×" $1 }' | sort; }

packages --package client-alone | grep -v '^client-alone ' > "$files/alone"
repeated "$files/alone" > "$files/alone-repeated"
printf 'the client alone: %s packages, %s crates in more than one version\n\n' \
  "$(wc -l < "$files/alone")" "$(wc -l < "$files/alone-repeated")"

failed=0
printf '| features of tower-attest | packages added | crates in more versions than before |\n|---|---|---|\n'
for features in "" seal tdx tls seal,tdx,tls; do
  packages --package client-attested --features "$features" | grep -v '^client-attested ' > "$files/attested"
  comm -13 "$files/alone" "$files/attested" > "$files/added"
  repeated "$files/attested" | comm -13 "$files/alone-repeated" - > "$files/doubled"
  if [ -z "$features" ]; then
    cp "$files/added" "$files/light"
    [ "$(wc -l < "$files/light")" -le 25 ] || failed=1
  fi
  [ -s "$files/doubled" ] && failed=1
  doubled="$(paste -sd' ' "$files/doubled")"
  printf '| snp, tonic%s | %s | %s |\n' "${features:+, ${features//,/, }}" "$(wc -l < "$files/added")" "${doubled:-none}"
done
printf '\nadded with snp, tonic: %s\n' "$(paste -sd, "$files/light" | sed 's/,/, /g')"
exit "$failed"
