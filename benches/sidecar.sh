#!/usr/bin/env bash
# `tower-attest serve` against nginx, each ending TLS 1.3 in front of the same upstream (nginx with two files), in paired
# runs: each round measures both, one right after the other, and what counts is the median of the rounds' ratios.
# Needs nginx, wrk, h2load (Debian: nginx-light wrk nghttp2-client), openssl and curl. Prints a table for docs/PERFORMANCE.md.
#
#   ROUNDS=7 SECONDS_EACH=5 CONNECTIONS=32 bash benches/sidecar.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds="${ROUNDS:-7}" each="${SECONDS_EACH:-5}" connections="${CONNECTIONS:-32}"
cargo build --quiet --release --all-features --bin tower-attest
sidecar="${CARGO_TARGET_DIR:-target}/release/tower-attest"
dir="$(mktemp -d)"
trap 'jobs -p | xargs -r kill; wait; rm -rf "$dir"' EXIT
upstream=18931 nginx=18932 serve=18933

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost -keyout "$dir/key.pem" -out "$dir/cert.pem" 2>/dev/null
head -c 1024 /dev/zero >"$dir/1k"
head -c 1048576 /dev/zero >"$dir/1m"
# nginx, started by root, reads files as nobody.
chmod 755 "$dir"

# One worker each, as the upstream and the load have the other processor. No logs, connections to the upstream are kept.
cat >"$dir/nginx.conf" <<CONF
worker_processes 1; daemon off; pid $dir/nginx.pid; error_log $dir/error.log;
events { worker_connections 1024; }
http {
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000;
  client_body_temp_path $dir/body; proxy_temp_path $dir/proxy; fastcgi_temp_path $dir/f; uwsgi_temp_path $dir/u; scgi_temp_path $dir/s;
  server { listen 127.0.0.1:$upstream; root $dir; default_type application/octet-stream; }
  upstream files { server 127.0.0.1:$upstream; keepalive 64; keepalive_requests 1000000; }
  server {
    listen 127.0.0.1:$nginx ssl http2;
    ssl_certificate $dir/cert.pem; ssl_certificate_key $dir/key.pem; ssl_protocols TLSv1.3;
    location / { proxy_pass http://files; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
CONF
"$(command -v nginx || echo /usr/sbin/nginx)" -e "$dir/error.log" -c "$dir/nginx.conf" &
"$sidecar" serve --host localhost --upstream "http://127.0.0.1:$upstream" --listen "127.0.0.1:$serve" --tls pem \
  --cert "$dir/cert.pem" --key "$dir/key.pem" --platform sim-snp --insecure-no-hardware >"$dir/serve" 2>&1 &
for base in "http://127.0.0.1:$upstream" "https://127.0.0.1:$nginx" "https://127.0.0.1:$serve"; do
  for _ in $(seq 100); do curl -sfk -o "$dir/probe" "$base/1m" && break; sleep 0.1; done
  [ "$(stat -c %s "$dir/probe" 2>/dev/null)" = 1048576 ] || { echo "$base does not answer" >&2; cat "$dir/error.log" "$dir/serve" >&2; exit 1; }
  rm "$dir/probe"
done

# What an attesting client sends once it trusts the server's keys: each response is then signed.
nonce=":$(head -c 32 /dev/urandom | base64 -w0):"
keys="$(curl -sk -D - -o "$dir/probe" -H "Attestation-Nonce: $nonce" "https://127.0.0.1:$serve/.well-known/tower-attest" |
  sed -n 's/.*keys=\(:[^:]*:\).*/\1/p')"
[ -n "$keys" ] || { echo "serve answers no evidence:" >&2; cat "$dir/serve" >&2; exit 1; }

load() { # protocol port file [header]: requests per second
  if [ "$1" = h1 ]; then
    wrk -t1 -c"$connections" -d"${each}s" ${4:+-H "$4"} "https://127.0.0.1:$2/$3" | awk '/Requests\/sec/ { print $2 }'
  else
    h2load -t1 -c"$connections" -m8 -D"$each" ${4:+-H "$4"} "https://127.0.0.1:$2/$3" | awk '/^finished/ { print $4 }'
  fi
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

echo "$rounds rounds of ${each} s, $connections connections; $(nproc) processors; $("$(command -v nginx || echo /usr/sbin/nginx)" -v 2>&1)"
echo
echo "| protocol | response | nginx, requests/s | serve | serve, each response signed |"
echo "|---|---|---|---|---|"
for protocol in h1 h2; do
  for file in 1k 1m; do
    rm -f "$dir"/rates.*
    load "$protocol" "$nginx" "$file" >"$dir/warm"
    load "$protocol" "$serve" "$file" >"$dir/warm"
    for _ in $(seq "$rounds"); do
      base="$(load "$protocol" "$nginx" "$file")"
      plain="$(load "$protocol" "$serve" "$file")"
      signed="$(load "$protocol" "$serve" "$file" "Attestation-Nonce: $nonce;have=$keys")"
      echo "$base" >>"$dir/rates.base"
      awk -v a="$plain" -v b="$base" 'BEGIN { print a / b }' >>"$dir/rates.plain"
      awk -v a="$signed" -v b="$base" 'BEGIN { print a / b }' >>"$dir/rates.signed"
    done
    printf '| %s | %s | %.0f | %.2f × | %.2f × |\n' "$protocol" "$([ "$file" = 1k ] && echo '1 KiB' || echo '1 MiB')" \
      "$(median <"$dir/rates.base")" "$(median <"$dir/rates.plain")" "$(median <"$dir/rates.signed")"
  done
done
