#!/usr/bin/env bash
# A service that knows nothing of attestation, both sidecars on simulated hardware, and curl through both.
# Needs Rust, curl and python3. Everything runs on loopback and ends with this script.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export TOWER_ATTEST_LOG=warn TOWER_ATTEST_LOG_FORMAT=text
cargo build --quiet --all-features --bin tower-attest
sidecar="${CARGO_TARGET_DIR:-target}/debug/tower-attest"
dir="$(mktemp -d)"
trap 'jobs -p | xargs -r kill; wait; rm -rf "$dir"' EXIT

# Waits for what a program says, and prints the last word of that line.
said() { # file words
  for _ in $(seq 300); do
    if grep -q -- "$2" "$1"; then grep -- "$2" "$1" | awk '{ print $NF }'; return; fi
    sleep 0.1
  done
  echo "no \"$2\" in $1:" >&2
  cat "$1" >&2
  exit 1
}

echo "--- A service, which has nothing to do with any of this"
mkdir "$dir/site"
echo "the service's answer" >"$dir/site/answer"
python3 -u -m http.server 0 --bind 127.0.0.1 --directory "$dir/site" >"$dir/service" 2>&1 &
said "$dir/service" "Serving HTTP" >/dev/null
port="$(sed -n 's/.*port \([0-9]*\).*/\1/p' "$dir/service")"
echo "listening    127.0.0.1:$port"

echo; echo "--- tower-attest serve, inside the (simulated) TEE"
"$sidecar" serve --host localhost --upstream "http://127.0.0.1:$port" --listen 127.0.0.1:0 \
  --platform sim-snp --insecure-no-hardware --simulated-policy "$dir/policy.toml" >"$dir/serve" 2>&1 &
server="$(said "$dir/serve" listening)"
cat "$dir/serve"

echo; echo "--- tower-attest connect, beside a client"
"$sidecar" connect --to "https://localhost:${server##*:}" --policy "$dir/policy.toml" --listen 127.0.0.1:0 \
  --dangerous-trust-attestation-alone --insecure-simulator >"$dir/connect" 2>&1 &
client="$(said "$dir/connect" listening)"
cat "$dir/connect"

echo; echo "--- curl through both"
curl -sS --fail -D - "http://$client/answer"

echo; echo "--- The same, where the client expects another program"
sed 's/value = "74/value = "00/' "$dir/policy.toml" >"$dir/other.toml"
"$sidecar" connect --to "https://localhost:${server##*:}" --policy "$dir/other.toml" --listen 127.0.0.1:0 \
  --dangerous-trust-attestation-alone --insecure-simulator >"$dir/refused" 2>&1 &
refused="$(said "$dir/refused" listening)"
status="$(curl -sS -o "$dir/problem" -w '%{http_code}' "http://$refused/answer")"
echo "status $status"
cat "$dir/problem"; echo
[ "$status" = 502 ] && grep -q '"not-attested"' "$dir/problem"
