#!/usr/bin/env bash
# Runs the commands of docs/OPERATING.md, as they stand there, on a machine without a TEE. Needs Linux, root (or a user
# namespace), curl and python3:
#
#     bash examples/deploy/rehearse.sh [path of tower-attest]
#
# In a mount and network namespace of its own, so that nothing of this machine is touched. In the place of
# - the hardware: simulated SEV-SNP, by two environment variables;
# - AMD's roots at the client's side: `--insecure-simulator`, which is added to `policy new`, `verify` and `connect`;
# - systemd: a `systemctl` that runs the unit's ExecStart, and signals it;
# - DNS: prover.example is 127.0.0.1;
# - the service: Python's own file server.
set -euo pipefail
script=$(realpath "${BASH_SOURCE[0]}")
cd "$(dirname "$script")/../.."

if [ "${REHEARSING:-}" != yes ]; then
  program=${1:-}
  if [ -z "$program" ]; then
    cargo build --quiet --locked --features cli --bin tower-attest
    program=${CARGO_TARGET_DIR:-target}/debug/tower-attest
  fi
  program=$(realpath "$program")
  namespaces=(unshare --mount --net --pid --fork --kill-child --mount-proc)
  if [ "$(id -u)" != 0 ]; then namespaces+=(--map-root-user); fi
  memory=$(mktemp -d)
  trap 'rmdir "$memory"' EXIT
  REHEARSING=yes "${namespaces[@]}" bash "$script" "$program" "$memory"
  exit
fi

program=$1 memory=$2
# Whatever is written goes to memory, and is gone with this namespace.
mount -t tmpfs rehearsal "$memory"
for dir in /etc /usr/local/bin /run "$PWD"; do
  layers=$(mktemp -d "$memory/XXXX")
  mkdir "$layers/upper" "$layers/work"
  mount -t overlay rehearsal -o "lowerdir=$dir,upperdir=$layers/upper,workdir=$layers/work" "$dir"
done
cd "$PWD" # the one with the layer above it
python3 -c '
import fcntl, socket, struct
flags = struct.pack("16sH14s", b"lo", 0x1 | 0x40, b"")
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, flags)'    # ip link set lo up, without iproute2
echo "127.0.0.1 prover.example localhost" > /etc/hosts
mkdir -p /etc/systemd/system

real=/run/tower-attest-program
install -m 0755 "$program" "$real"
cat > /usr/local/bin/tower-attest <<EOF
#!/bin/sh
case "\$1 \$2" in "policy new" | "verify "* | "connect "*) set -- "\$@" --insecure-simulator ;; esac
exec $real "\$@"
EOF
cat > /usr/local/bin/systemctl <<'EOF'
#!/bin/bash
unit=/etc/systemd/system/${!#}.service pid=/run/${!#}.pid
case $1 in
  daemon-reload) ;;
  enable)
    # systemd strips the environment; the unit of this rehearsal has two variables more.
    setsid env -i PATH="$PATH" TOWER_ATTEST_PLATFORM=sim-snp TOWER_ATTEST_INSECURE_NO_HARDWARE=true \
      $(sed -n 's/^ExecStart=//p' "$unit") > "/run/${!#}.log" 2>&1 &
    echo $! > "$pid"
    for _ in $(seq 300); do
      if grep -q '^listening' "/run/${!#}.log"; then exit 0; fi
      if ! kill -0 "$(cat "$pid")" 2> /dev/null; then break; fi
      sleep 0.1
    done
    cat "/run/${!#}.log"; exit 1 ;;
  status) cat "/run/${!#}.log" && kill -0 "$(cat "$pid")" ;;
  reload) kill -HUP "$(cat "$pid")" && sleep 1 ;;
  *) echo "systemctl $1: not in this rehearsal" >&2; exit 1 ;;
esac
EOF
chmod 0755 /usr/local/bin/tower-attest /usr/local/bin/systemctl
export PATH=/usr/local/bin:$PATH TOWER_ATTEST_PLATFORM=sim-snp TOWER_ATTEST_INSECURE_NO_HARDWARE=true

mkdir /run/service && echo "an answer of the service" > /run/service/index.html
python3 -m http.server --bind 127.0.0.1 --directory /run/service 8082 > /dev/null 2>&1 &

# The blocks that are marked, in their order, in one shell: what one starts the next may use.
awk '/^<!-- rehearsed -->$/ { marked = 1; next }
     /^```sh$/ && marked { inside = 1; next }
     /^```$/ && inside { inside = marked = 0; next }
     inside' docs/OPERATING.md > /run/commands
answer=$(bash -euxo pipefail /run/commands 2>&1 | tee >(cat >&2))
# What the chapters promise, besides that no command fails.
for promised in '"ready":true' 'tower_attest_attester_health{state="ready"} 1' 'Attestation-Result: verified' \
  'an answer of the service' 'tower_attest_reloads_total'; do
  grep -qiF "$promised" <<< "$answer" || { echo "rehearsal: expected $promised" >&2; exit 1; }
done
echo "rehearsed: $(grep -c . /run/commands) lines of docs/OPERATING.md did what they say"
