"""What the scripts here share: a PKI to measure with, servers, wrk, and how their figures are printed."""

import base64
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETTLE_LIMIT = 240
TICK = os.sysconf("SC_CLK_TCK")
ESCAPES = str.maketrans({"+": "%2B", "/": "%2F", "=": "%3D"})

WRK_SCRIPT = """
local requests, n, at = {}, 0, 0
function init(args)
  for path in io.lines(args[1]) do
    n = n + 1
    requests[n] = "GET " .. path .. " HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n"
  end
end
function request()
  at = at % n + 1
  return requests[at]
end
"""
WRK_DONE = """
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('RESULT {"requests": %d, "us": %d, "errors": %d, "p50": %d, "p99": %d}\\n', summary.requests,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""


def die(text):
    sys.exit(f"{Path(sys.argv[0]).name}: {text}")


def tool(name, package):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    return path or die(f"{name} is missing; on Debian: apt-get install {package}")


class Server:
    """A process started here, pinned, and its children."""

    def __init__(self, name, command, cpu, log):
        self.name = name
        self.log = log
        with open(log, "wb") as out:
            pin = lambda: os.sched_setaffinity(0, {cpu}) if cpu is not None else None
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=pin)

    def pids(self):
        found, wave = [self.process.pid], [self.process.pid]
        while wave:
            parents, wave = set(wave), []
            for entry in os.listdir("/proc"):
                if entry.isdigit():
                    fields = stat_fields(entry)
                    if fields and int(fields[1]) in parents and int(entry) not in found:
                        wave.append(int(entry))
            found += wave
        return found

    def cpu_seconds(self):
        """User and system time of all its processes, with their threads."""
        total = 0
        for pid in self.pids():
            fields = stat_fields(pid)
            if fields:
                total += int(fields[11]) + int(fields[12])
        return total / TICK

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def check(self):
        if self.process.poll() is not None:
            die(f"{self.name} ended with code {self.process.returncode}:\n{Path(self.log).read_text()[-2000:]}")


def stat_fields(pid):
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def wait_for(what, holds, limit, server):
    end = time.monotonic() + limit
    while not holds():
        server.check()
        if time.monotonic() > end:
            die(f"{what}: not within {limit} s; see {server.log}")
        time.sleep(0.2)


def http_get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.headers, answer.read()


def gauge(port, name):
    try:
        text = http_get(port, "/metrics")[1].decode()
    except OSError:
        return None
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " ")), None)


def is_settled(admin):
    return gauge(admin, "stillgood_presign_missing") == 0 and gauge(admin, "stillgood_presign_backlog") == 0 and \
        (gauge(admin, "stillgood_presign_slices") or 0) > 0


def make_pki(binary, directory, certs, port, log):
    """Makes a PKI in directory by `stillgood demo`, unless it is there; nothing is signed yet. The demo listens on port while
    it works."""
    if (directory / "measured.toml").exists():
        return
    with open(log, "wb") as out:
        command = [binary, "demo", "--dir", directory, "--certs", str(certs), "--listen", f"127.0.0.1:{port}"]
        demo = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        end = time.monotonic() + SETTLE_LIMIT
        # Its configuration is the last file that it writes.
        while not (directory / "stillgood.toml").exists():
            if demo.poll() is not None or time.monotonic() > end:
                die(f"stillgood demo made no PKI:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
    finally:
        demo.send_signal(signal.SIGTERM)
        try:
            demo.wait(20)
        except subprocess.TimeoutExpired:
            demo.kill()
            demo.wait()
    # Its signers live for minutes.
    shutil.rmtree(directory / "state", ignore_errors=True)


def configure(directory, port, workers=0):
    """Writes a configuration with the settings of real life, not the demo's minutes, and gives its path; the admin listener
    is on the port after."""
    path = directory / "measured.toml"
    path.write_text(f"""state_dir = "state"
[endpoint]
listen = ["127.0.0.1:{port}"]
workers = {workers}
max_requests_per_connection = 1000000000
[admin]
listen = "127.0.0.1:{port + 1}"
[registry]
source = "issuers.json"
[renewal]
activation_skew = "0s"
ramp = "0s"
[enrolment.demo]
protocol = "local"
ca_keys = "ca-keys"
validity = "90d"
""")
    return path


def prepare(binary, directory, certs, port, work):
    """Makes a PKI and signs everything, on all cores; the measured server starts warm from it, with one worker."""
    make_pki(binary, directory, certs, port, work / f"demo-{certs}.log")
    command = [binary, "serve", "--config", configure(directory, port)]
    server = Server(f"signing {certs}", command, None, work / f"signing-{certs}.log")
    try:
        wait_for(f"signing {certs} certificates ahead", lambda: is_settled(port + 1), SETTLE_LIMIT, server)
    finally:
        server.stop()
    configure(directory, port, workers=1)


def request_head(openssl, directory):
    """The DER of a request about the first CA, but for its last 16 octets: the serial."""
    zeros = "40" + "00" * 15
    template = directory / "request.der"
    subprocess.run([openssl, "ocsp", "-issuer", directory / "demo-ca.pem", "-serial", "0x" + zeros, "-no_nonce",
                    "-reqout", template], check=True, capture_output=True)
    der = template.read_bytes()
    if not der.endswith(bytes.fromhex(zeros)):
        die("openssl ocsp wrote a request that does not end with its serial")
    return der[:-16]


def get_path(der):
    return "/" + base64.b64encode(der).decode().translate(ESCAPES)


def write_paths(openssl, directory, seed):
    """A GET path for every serial of the index, in random order; gives a request's DER and some paths."""
    head = request_head(openssl, directory)
    serials = []
    with open(directory / "index.txt") as index:
        for line in index:
            serial = bytes.fromhex(line.split("\t")[3])
            if len(serial) != 16 or not 0x40 <= serial[0] < 0x80:
                die("a serial of the demo is not 16 octets long")
            serials.append(serial)
    random.Random(seed).shuffle(serials)
    with open(directory / "paths.txt", "w") as out:
        for serial in serials:
            out.write(get_path(head + serial) + "\n")
    (directory / "post.der").write_bytes(head + serials[0])
    return [line for line, _ in zip(open(directory / "paths.txt"), range(200))]


def start_wrk(wrk, cpu, port, script, argument, seconds, connections, timeout=2):
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={timeout}s", "-s", str(script),
               f"http://127.0.0.1:{port}/", "--", str(argument)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))


def result_of(wrk, timeout):
    """What a wrk that was started says when it ends."""
    try:
        out, errors = wrk.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        wrk.kill()
        out, errors = wrk.communicate()
    line = next((line for line in out.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        die(f"wrk failed ({wrk.returncode}):\n{out}{errors}")
    return json.loads(line[7:])


def run_wrk(wrk, cpu, port, script, argument, seconds, connections):
    return result_of(start_wrk(wrk, cpu, port, script, argument, seconds, connections), seconds + 60)


def spread(values, form):
    values = [v for v in values if v == v]
    return f"{form % statistics.median(values)} [{form % min(values)}–{form % max(values)}]"
