"""The parts of operations.py's deployment: sidecars, workers with a service each, a CA."""

import atexit, hashlib, http.client, json, os, random, re, signal, socket, ssl, subprocess, threading, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

CERTIFICATE_LIFE = 90  # seconds; renewed at two thirds
WORKER_KEYS = 8  # seconds that keys are used
PATIENCE = 60  # seconds: long enough for a busy machine, reached only by what never happens
PLACE = SimpleNamespace(binary=None, dir=None)  # the program, and where files go: set before anything starts
LOCK = threading.Lock()


def free_port():
    """Below those that the system gives to outgoing connections, so that a worker finds its port again."""
    while True:
        port = random.SystemRandom().randrange(20_000, 30_000)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("127.0.0.1", port))
            return port
        except OSError:
            continue


def eventually(what, happened):
    end = time.monotonic() + PATIENCE
    while not (found := happened()):
        if time.monotonic() > end:
            raise RuntimeError(f"it never happened: {what}")
        time.sleep(0.05)
    return found


def child(command, **how):
    """A process that ends when this one does, however that comes."""
    process = subprocess.Popen(command, **how)
    atexit.register(process.kill)
    return process


class Sidecar:
    """`serve` or `connect` as a child, with what it said of itself before it listened."""

    def __init__(self, arguments, log):
        self.log = open(log, "ab")
        self.child = child([PLACE.binary, *arguments, "--admin", "127.0.0.1:0", "--log-format", "json"], stdout=subprocess.PIPE, stderr=self.log)
        self.banner = {}
        for line in self.child.stdout:
            word, _, rest = line.decode().strip().partition(" ")
            self.banner[word] = rest.strip()
            if word == "listening":
                return
        raise RuntimeError(f"{' '.join(arguments)} ended with {self.child.wait()}: see {log}")

    def get(self, path):
        """A page of the admin listener: its text, whatever its status."""
        connection = http.client.HTTPConnection(self.banner["admin"], timeout=PATIENCE)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def metric(self, name, text=None, /, **labels):
        """The sum of all samples of a name with these labels."""
        total = 0.0
        for line in (text or self.get("/metrics")).splitlines():
            found = re.fullmatch(r"tower_attest_(\w+)(?:\{(.*)\})? (\S+)", line)
            if found and found[1] == name and labels.items() <= dict(re.findall(r'(\w+)="([^"]*)"', found[2] or "")).items():
                total += float(found[3])
        return total

    def signal(self, number):
        self.child.send_signal(number)

    def end(self, number):
        """The exit code after a signal."""
        self.signal(number)
        return self.child.wait(timeout=PATIENCE)


def answer_to(method, path, body):
    """What each upstream answers, so that a client knows the right body."""
    return f"{method} {path} {hashlib.sha256(body).hexdigest()}\n".encode()


class Upstream(BaseHTTPRequestHandler):
    """The service behind a worker. It counts what reaches it, and what does while its worker must not be believed."""

    protocol_version, disable_nagle_algorithm, wbufsize = "HTTP/1.1", True, 1 << 16

    def answer(self):
        worker = self.server.worker
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        with LOCK:
            worker.requests += 1
            worker.betrayed += worker.refused
        time.sleep(random.random() / 20)  # so that something is under way when a worker dies
        body = answer_to(self.command, self.path, body)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Worker:
    def __init__(self, number):
        self.requests = self.betrayed = 0  # what its service got, and what it got that it must not
        self.refused = False
        self.port, self.stall, self.log = free_port(), PLACE.dir / f"stall-{number}", PLACE.dir / f"worker-{number}.log"
        self.url = f"https://localhost:{self.port}"
        server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        server.worker, server.daemon_threads = self, True
        server.handle_error = lambda *_: None  # a worker that was killed
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.flags = ["serve", "--host", "localhost", "--upstream", f"http://127.0.0.1:{server.server_port}", "--listen", f"127.0.0.1:{self.port}"]
        self.flags += ["--insecure-no-hardware", "--simulated-stall-file", str(self.stall), "--report-timeout", "1s", "--key-lifetime", f"{WORKER_KEYS}s"]
        self.config = configuration(self.flags)

    def drain(self):
        if (code := self.serve.end(signal.SIGTERM)) != 0:
            raise RuntimeError(f"a worker that was to drain ended with {code}: see {self.log}")

    def start(self, *more):
        self.earlier = self.requests
        platform = [] if "--platform" in more else ["--platform", "sim-snp"]
        policy = ["--simulated-policy", str(PLACE.dir / "simulated.toml")]
        self.serve = Sidecar([*self.flags, *platform, *policy, *more], self.log)


class Pebble:
    """A CA with a short memory: whenever it starts it has forgotten accounts and has another root."""

    def __init__(self):
        self.acme, self.management, self.dns, self.tls = (free_port() for _ in range(4))
        names = PLACE.dir / "openssl.conf"
        names.write_text("[req]\ndistinguished_name=d\nx509_extensions=x\n[d]\n[x]\nsubjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n")
        self.cert, key, self.roots = PLACE.dir / "pebble.pem", PLACE.dir / "pebble.key", PLACE.dir / "roots.pem"
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=pebble"]
        subprocess.run([*make, "-config", names, "-keyout", key, "-out", self.cert], check=True, stderr=subprocess.DEVNULL)
        config = {"listenAddress": f"127.0.0.1:{self.acme}", "managementListenAddress": f"127.0.0.1:{self.management}", "certificate": str(self.cert),
                  "privateKey": str(key), "httpPort": free_port(), "tlsPort": self.tls, "certificateValidityPeriod": CERTIFICATE_LIFE}
        (PLACE.dir / "pebble.json").write_text(json.dumps({"pebble": config}))
        dns = ["pebble-challtestsrv", "-dns01", f"127.0.0.1:{self.dns}", "-management", f"127.0.0.1:{free_port()}", "-defaultIPv6", ""]
        self.names = child([*dns, "-http01", "", "-https01", "", "-tlsalpn01", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.roots.write_text("")
        self.start()

    def start(self):
        """Its new root goes beside the old ones: what they signed still serves."""
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}
        command = ["pebble", "-config", PLACE.dir / "pebble.json", "-dnsserver", f"127.0.0.1:{self.dns}"]
        with open(PLACE.dir / "pebble.log", "ab") as log:
            self.child = child(command, env=environment, stdout=log, stderr=log)
        trust = ssl.create_default_context(cafile=str(self.cert))

        eventually("the CA", lambda: socket.socket().connect_ex(("127.0.0.1", self.management)) == 0)
        root = urllib.request.urlopen(f"https://localhost:{self.management}/roots/0", context=trust).read().decode()
        self.roots.write_text(self.roots.read_text() + root)

    def kill(self):
        self.child.kill()
        self.child.wait()


def configuration(flags):
    """The digest that clients pin, from the program itself."""
    text = subprocess.run([PLACE.binary, *flags, "--show-config"], check=True, capture_output=True, text=True).stdout
    return re.search(r"# sha256 (\w{64})", text)[1]


def pinned(configs, policy):
    return f"[server]\nconfig = {json.dumps(configs)}\n\n{policy}"
