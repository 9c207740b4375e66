#!/usr/bin/env python3
"""A soak of a whole deployment: hours of an operator's events in minutes.

    cargo build --all-features --bin tower-attest
    python3 tools/soak/operations.py --minutes 10 [--binary target/debug/tower-attest] [--seed N] [--keep DIR]

    clients -> connect -> balancer (certificate from Pebble) -> three workers -> an upstream of each (in this process)

All hardware is simulated. Every few seconds something happens: a reload, a worker that dies, leaves, or comes back as something that must not be
believed, hardware that hangs, a CA that goes. Keys and certificates change meanwhile by themselves. At the end stands a table of what was promised,
what this script did and what the metrics say of it. Exit code 0: every line of it holds. Needs openssl; without Debian's `pebble` the balancer's
certificate is self-signed, and the table says so. Nothing but Python's standard library.
"""

import argparse, http.client, os, random, re, shutil, signal, sys, tempfile, threading, time
from collections import Counter
from pathlib import Path

from deployment import CERTIFICATE_LIFE, PATIENCE, PLACE, Pebble, Sidecar, Worker, answer_to, configuration, eventually, free_port, pinned

NAME = "prover.example"
BALANCER_KEYS = 15  # seconds that keys are used

# ---- Clients ----


class Client(threading.Thread):
    """Asks without pause, checks every answer, and notes what it did not get."""

    def __init__(self, number, address):
        super().__init__(daemon=True)
        self.number, self.address, self.stopped = number, address, threading.Event()
        self.good = self.repeated = self.exchanges = 0
        self.lost, self.unverified, self.wrong = [], [], []

    def run(self):
        choice, turn, self.connection = random.Random(self.number), 0, None
        while not self.stopped.wait(0.03):
            turn += 1
            method, path = choice.choice(["GET", "GET", "GET", "POST"]), f"/{self.number}/{turn}"
            body = os.urandom(choice.randrange(1, 4096)) if method == "POST" else b""
            begun = time.monotonic()
            for _ in range(10):
                status, result, content = self.exchange(method, path, body)
                if b"configuration-changed" not in content:
                    break
                self.repeated += 1  # 421: nothing of it was sent on, and it may be repeated on a new connection
            if status != 200:
                self.connection = None  # one that was answered before its body was read may end (RFC 9112, section 9.6)
                code = re.search(rb'"code":"([^"]*)"', content)
                self.lost.append((begun, time.monotonic(), method, path, status, code[1].decode() if code else "", result, content))
                continue
            self.good += 1
            if not result.startswith("verified;"):
                self.unverified.append((path, result))
            if content != answer_to(method, path, body):
                self.wrong.append((path, content))

    def exchange(self, method, path, body):
        self.exchanges += 1
        self.connection = self.connection or http.client.HTTPConnection(self.address, timeout=PATIENCE)
        try:
            self.connection.request(method, path, body or None)
            response = self.connection.getresponse()
            return response.status, response.headers.get("attestation-result", ""), response.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection = None
            return 0, "", repr(error).encode()

# ---- Events ----


class Soak:
    def __init__(self, seed):
        self.random, self.did, self.killed, self.stalls = random.Random(seed), Counter(), [], 0
        self.expiries, self.epochs, self.ca_away, self.over = set(), set(), None, threading.Event()
        self.workers = [Worker(number) for number in (1, 2, 3)]
        for worker in self.workers:
            worker.start()
        # The workers' configurations are pinned, and their measurements. A TDX machine would do, of another image than the simulator's.
        simulated = (PLACE.dir / "simulated.toml").read_text()
        policy = pinned([worker.config for worker in self.workers], re.sub(r'mrtd = "\w+"', f'mrtd = "{"11" * 48}"', simulated))
        self.policies = [policy, policy.replace('name = "simulated"', 'name = "simulated, too"')]
        self.policy = PLACE.dir / "workers.toml"
        self.ca = Pebble() if shutil.which("pebble") and shutil.which("pebble-challtestsrv") else None
        port = self.ca.tls if self.ca else free_port()
        configs = self.start_balancer(port)
        # Clients pin both configurations that the balancer moves between.
        (PLACE.dir / "policy.toml").write_text(pinned(configs, simulated))
        flags = ["connect", "--to", f"https://{NAME}:{port}", "--address", f"127.0.0.1:{port}", "--listen", "127.0.0.1:0", "--offline"]
        flags += ["--policy", str(PLACE.dir / "policy.toml"), "--insecure-simulator", "--max-evidence-age", "20s"]
        flags += ["--roots-file", str(self.ca.roots)] if self.ca else ["--dangerous-trust-attestation-alone"]
        self.connect = Sidecar(flags, PLACE.dir / "connect.log")
        threading.Thread(target=self.watch, daemon=True).start()

    def start_balancer(self, port):
        """Returns its configurations, one for each policy."""
        flags = ["serve", "--host", NAME, "--listen", f"127.0.0.1:{port}", "--platform", "sim-snp", "--insecure-no-hardware"]
        flags += [word for worker in self.workers for word in ("--upstream", worker.url)]
        flags += ["--upstream-policy", str(self.policy), "--dangerous-upstream-trust-attestation-alone", "--insecure-upstream-simulator", "--upstream-offline"]
        flags += ["--upstream-check-interval", "500ms", "--upstream-max-evidence-age", "8s", "--key-lifetime", f"{BALANCER_KEYS}s"]
        if self.ca:
            flags += ["--tls", "acme", "--acme-accept-terms", "--acme-directory", f"https://localhost:{self.ca.acme}/dir"]
            flags += ["--acme-roots-file", str(self.ca.cert), "--state-dir", str(PLACE.dir / "state")]
        configs = []
        for self.good in reversed(self.policies):
            self.policy.write_text(self.good)
            configs.append(configuration(flags))
        self.balancer = Sidecar(flags, PLACE.dir / "balancer.log")
        if self.ca:
            eventually("a first certificate", lambda: self.balancer.metric("certificate_expiry_timestamp_seconds"))
        return configs

    def watch(self):
        """Every expiry and key epoch that the balancer's metrics ever showed."""
        while not self.over.wait(0.5):
            text = self.balancer.get("/metrics")
            self.expiries.add(self.balancer.metric("certificate_expiry_timestamp_seconds", text))
            self.epochs.add(self.balancer.metric("key_epoch", text))

    def standing(self, worker, *standings):
        text = self.balancer.get("/metrics")
        return any(self.balancer.metric("worker_standing", text, worker=worker.url, standing=standing) for standing in standings)

    def back(self, worker):
        worker.start()
        self.believed(worker)

    def believed(self, worker):
        eventually(f"{worker.url} is believed", lambda: self.standing(worker, "serving", "paused"))

    def choose(self, most=1):
        """Workers to disturb: one at least is left, and it is believed."""
        believed = [worker for worker in self.workers if self.standing(worker, "serving")]
        return self.random.sample(believed, max(0, min(most, len(believed) - 1)))

    def note(self, event):
        self.did[event] += 1
        print(f"{time.monotonic() - BEGUN:6.1f} s  {event}", flush=True)

    def reload(self, what, text, outcome):
        self.note(f"SIGHUP: {what} policy")
        self.did[outcome] += 1
        self.policy.write_text(text)
        self.balancer.signal(signal.SIGHUP)
        seen = lambda: self.balancer.metric("reloads_total", name="upstream-policy", outcome=outcome)
        eventually(f"a policy {outcome}", lambda: seen() >= self.did[outcome])

    def reload_same(self):
        self.reload("the same", self.good, "reloaded")

    def reload_other(self):
        self.good = next(policy for policy in self.policies if policy != self.good)
        self.reload("another", self.good, "reloaded")

    def reload_bad(self):
        self.reload("a bad", "[[snp.measurement]]\nvalue = 'none'\n", "refused")

    def kill(self):
        chosen = self.choose(self.random.choice([1, 1, 2]))
        for worker in chosen:
            self.note("worker killed")
            before = time.monotonic()
            worker.serve.end(signal.SIGKILL)
            self.killed.append((before, time.monotonic()))
        time.sleep(self.random.uniform(0.3, 2))
        for worker in chosen:
            self.back(worker)

    def leave(self):
        for worker in self.choose():
            self.note("worker left (SIGTERM)")
            worker.drain()
            time.sleep(self.random.uniform(0.3, 2))
            self.back(worker)

    def impostor(self):
        for worker in self.choose():
            kind, flags = self.random.choice([("measurement", ["--platform", "sim-tdx"]), ("configuration", ["--sealed"])])
            worker.drain()
            time.sleep(0.3)
            worker.refused = True
            refused = self.balancer.metric("attestations_total", outcome="refused")
            self.note(f"worker of another {kind}")
            worker.start(*flags)
            eventually("a refusal", lambda: self.balancer.metric("attestations_total", outcome="refused") > refused and self.standing(worker, "ejected"))
            time.sleep(2)
            worker.drain()
            worker.refused = False
            self.back(worker)

    def stall(self):
        for worker in self.choose():
            self.note("hardware stalled")
            count = lambda: worker.serve.metric("reports_total", outcome="stalled")
            before = count()
            worker.stall.touch()
            eventually("a stall in the metrics", lambda: count() > before)
            eventually("a stall in /readyz", lambda: '"check":"attester","ok":false' in worker.serve.get("/readyz"))
            self.stalls += worker.serve.metric("attester_health", state="stalled") == 1
            time.sleep(self.random.uniform(0, 10))  # the evidence that the balancer holds may end meanwhile
            worker.stall.unlink()
            eventually("the hardware answers", lambda: worker.serve.metric("attester_health", state="ready"))
            self.believed(worker)

    def ca_turns(self):
        if self.ca and not self.ca_away:
            self.note("CA killed")
            self.ca.kill()
        elif self.ca:
            self.note("CA back with another root")
            self.ca.start()
            seen = lambda: self.connect.metric("reloads_total", outcome="reloaded")
            self.connect.signal(signal.SIGHUP)  # which reads the roots
            eventually("the new root at connect", lambda: seen() >= self.did["CA back with another root"])
            self.reload_same()  # has the balancer ask the CA at once
        self.ca_away = None if self.ca_away else time.monotonic()

    def run(self, minutes):
        events = [self.reload_same, self.reload_other, self.reload_bad, self.kill, self.leave, self.impostor, self.stall, self.ca_turns]
        end, due = time.monotonic() + minutes * 60, []
        while time.monotonic() < end:
            due = due or self.random.sample(events, len(events))  # each once, in any order, then again
            due.pop()()
            if self.ca_away and time.monotonic() - self.ca_away > CERTIFICATE_LIFE / 9:
                self.ca_turns()  # or a certificate of so short a life would end
            time.sleep(self.random.uniform(0.5, 3))
        if self.ca_away:
            self.ca_turns()

# ---- The table ----


def table(soak, clients):
    rows, did = [], soak.did

    def row(promise, expected, relation, found):
        holds = {"=": found == expected, ">=": found >= expected, "<=": found <= expected}[relation]
        rows.append((promise, f"{relation} {expected:g}", f"{found:g}", "yes" if holds else "**no**"))

    every = lambda field: [entry for client in clients for entry in getattr(client, field)]
    total = lambda field: sum(getattr(client, field) for client in clients)
    near, far = soak.connect.get("/metrics"), soak.balancer.get("/metrics")
    at_connect = lambda name, /, **labels: soak.connect.metric(name, near, **labels)
    at_balancer = lambda name, /, **labels: soak.balancer.metric(name, far, **labels)
    # What was under way on a worker when it was killed may have been processed, so that only safe requests are sent to another, and
    # those once: a GET is lost if its second worker is killed under it, too.
    kills = lambda loss: sum(loss[0] <= after and before <= loss[1] for before, after in soak.killed)
    cut_off = lambda loss: loss[5] == "upstream-broke" and kills(loss) >= (1 if loss[2] == "POST" else 2)
    lost = [loss for loss in every("lost") if not cut_off(loss)]
    for odd in lost + every("unverified") + every("wrong"):
        print("ODD", odd)
    good, excused, minutes = total("good"), len(every("lost")) - len(lost), (time.monotonic() - BEGUN) / 60
    refused = did["worker of another measurement"] + did["worker of another configuration"]
    gone = refused + did["worker killed"]
    row("requests answered 200", 1, ">=", good)
    row("requests lost that had an alternative", 0, "=", len(lost))
    row("POSTs cut off with their worker, GETs with two: one of each client for each kill at most", len(clients) * len(soak.killed), "<=", excused)
    row("200s without `verified`", 0, "=", len(every("unverified")))
    row("200s with another body", 0, "=", len(every("wrong")))
    row("requests that reached the service of a refused worker", 0, "=", sum(worker.betrayed for worker in soak.workers))
    row("connect: requests of all outcomes, as the clients' exchanges", total("exchanges"), "=", at_connect("requests_total"))
    row("connect: answered 2xx, as the clients' 200s", good, "=", at_connect("requests_total", outcome="answered", status="2xx"))
    row("balancer: answered 2xx, as the clients' 200s", good, "=", at_balancer("requests_total", outcome="answered", status="2xx"))
    row("balancer: `configuration-changed`, as the clients' repeats", total("repeated"), "=", at_balancer("requests_total", reason="configuration-changed"))
    row("balancer: `upstream-broke`, as the requests cut off", excused, "=", at_balancer("requests_total", reason="upstream-broke"))
    row("balancer: requests sent to workers, not fewer than 200s", good, ">=", at_balancer("worker_requests_total"))
    for number, worker in enumerate(soak.workers, 1):
        row(f"worker {number}: requests since its last start, as its service's", worker.requests - worker.earlier, "=", worker.serve.metric("requests_total"))
    row("connect and balancer: requests in flight", 0, "=", at_connect("requests_in_flight") + at_balancer("requests_in_flight"))
    for outcome in ("reloaded", "refused"):
        row(f"balancer: policies {outcome}, as SIGHUPs", did[outcome], "=", at_balancer("reloads_total", name="upstream-policy", outcome=outcome))
    row("connect: roots reloaded, as SIGHUPs", did["CA back with another root"], "=", at_connect("reloads_total", outcome="reloaded"))
    row("balancer: ejections, not fewer than kills and refusals", gone, ">=", at_balancer("worker_ejections_total"))
    row("balancer: workers that serve at the end", 3, "=", at_balancer("worker_standing", standing="serving"))
    row("balancer: attestations refused, not fewer than workers refused", refused, ">=", at_balancer("attestations_total", outcome="refused"))
    row("balancer: attestations verified, not fewer than good starts", 3 + gone + did["worker left (SIGTERM)"], ">=", at_balancer("attestations_total", outcome="verified"))
    row("connect: attestations verified, not fewer than roots", 1 + did["CA back with another root"], ">=", at_connect("attestations_total", outcome="verified"))
    row("connect: attestations refused", 0, "=", at_connect("attestations_total", outcome="refused"))
    row("workers: stalls told by metrics and /readyz", did["hardware stalled"], "=", soak.stalls)
    row("balancer: key epochs seen, not fewer than two thirds of its time", int(minutes * 60 / BALANCER_KEYS * 2 / 3), ">=", len(soak.epochs))
    if soak.ca:
        issued = at_balancer("acme_orders_total", outcome="issued")
        row("balancer: certificates issued, as expiries seen", len(soak.expiries), "=", issued)
        row("balancer: renewals, one in two minutes at least", int(minutes / 2), ">=", issued - 1)
        row("balancer: seconds left of its certificate", 1, ">=", int(max(soak.expiries) - time.time()))
    else:
        rows.append(("certificates from a CA", "-", "-", "skipped: pebble is not installed"))
    row("panics in the logs", 0, "=", sum(path.read_text(errors="replace").count("panicked") for path in PLACE.dir.glob("*.log")))
    print("\n| what | expected | found | holds |\n|---|---|---|---|")
    for cells in rows:
        print("| " + " | ".join(cells) + " |")
    print("\nEvents: " + ", ".join(f"{count} × {event}" for event, count in sorted(did.items()) if event not in ("reloaded", "refused")) + ".")
    return all(cells[3] != "**no**" for cells in rows)


def main(minutes, seed):
    print(f"seed {seed}, files in {PLACE.dir}", flush=True)
    soak = Soak(seed)
    clients = [Client(number, soak.connect.banner["listening"]) for number in range(4)]
    for client in clients:
        client.start()
    try:
        soak.run(minutes)
    finally:
        for client in clients:
            client.stopped.set()
            client.join(PATIENCE)
        time.sleep(1.5)  # a connection's task may be a moment behind its client
        holds = table(soak, clients)
        soak.over.set()
    ended = [sidecar.end(signal.SIGTERM) for sidecar in (soak.connect, soak.balancer, *(worker.serve for worker in soak.workers))]
    print(f"exit codes of the sidecars after SIGTERM: {ended}")
    return 0 if holds and not any(ended) else 1

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--binary", default=str(Path(__file__).resolve().parents[2] / "target/debug/tower-attest"))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of the order of events")
    parser.add_argument("--keep", help="a directory for logs and files, kept; default: one that goes unless something fails")
    given = parser.parse_args()
    BEGUN = time.monotonic()
    PLACE.binary, PLACE.dir = given.binary, Path(given.keep or tempfile.mkdtemp(prefix="tower-attest-soak-")).resolve()
    PLACE.dir.mkdir(parents=True, exist_ok=True)
    code = main(given.minutes, given.seed)
    if code == 0 and not given.keep:
        shutil.rmtree(PLACE.dir)
    sys.exit(code)
