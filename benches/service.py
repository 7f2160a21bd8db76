"""The part of a service manager that benches/soak plays: it holds the listening socket, starts, stops and watches the process."""

import http.client
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from common import die, http_get

CONFIG = "stillgood.toml"
LISTEN_FD = 3
START_LIMIT = 60
STOP_LIMIT = 15
# SIGKILL may break what was sent before the next process answers, and what is noticed of it until this long after.
AFTERMATH = 1.0


class Service:
    """The process under test, and what a service manager does for it."""

    def __init__(self, binary, directory, listener, admin):
        self.binary, self.directory, self.admin = binary, directory, admin
        self.port = listener.getsockname()[1]
        self.log = directory / "serve.log"
        self.process = None
        self.lives = []  # of each process: when it started, and samples of its memory
        self.restarts = []  # how, when, until an answer
        self.changes = {}  # of signers, by process
        self.path = None  # what is asked to see that it answers

    def start(self):
        # Only the process itself knows its number, LISTEN_PID, before it runs.
        command = ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", self.binary, "serve", "--config", self.directory / CONFIG]
        names = {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "ocsp"}
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=(LISTEN_FD,),
                                            env=os.environ | names)
        self.lives.append((time.monotonic(), []))

    def answers(self, limit):
        """Waits for an answer about the first certificate; it is in the socket's queue until somebody takes it."""
        end = time.monotonic() + limit
        while True:
            if self.process.poll() is not None:
                die(f"stillgood ended with code {self.process.returncode}:\n{self.log.read_text()[-2000:]}")
            try:
                if len(ask(self.port, self.path, None, 5)) > 100:
                    return
            except OSError:
                pass
            if time.monotonic() > end:
                die(f"no answer within {limit} s:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.01)

    def restart(self, how):
        self.count_changes()
        began = time.monotonic()
        self.process.send_signal(how)
        try:
            code = self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            die(f"stillgood did not stop within {STOP_LIMIT} s")
        stopped = time.monotonic()
        self.start()
        self.answers(START_LIMIT)
        self.restarts.append((how, began, stopped - began, time.monotonic() - began))
        if code != (0 if how == signal.SIGTERM else -how):
            return f"exit code {code} after {how.name}"
        return None

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def metrics(self):
        try:
            text = http_get(self.admin, "/metrics")[1].decode()
        except (OSError, http.client.HTTPException):
            return None
        return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))

    def metric(self, name):
        """The sum over its labels."""
        metrics = self.metrics() or {}
        values = [float(value) for key, value in metrics.items() if key.partition("{")[0] == name]
        return sum(values) if values else None

    def count_changes(self):
        life = len(self.lives)
        self.changes[life] = max(self.changes.get(life, 0), int(self.metric("stillgood_signer_changes_total") or 0))

    def sample(self):
        try:
            text = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return
        found = dict(re.findall(r"^(RssAnon|RssFile|VmHWM):\s+(\d+) kB", text, re.M))
        if len(found) == 3:
            self.lives[-1][1].append((time.monotonic(), *(int(found[k]) / 1024 for k in ("RssAnon", "RssFile", "VmHWM"))))

    def is_killed_between(self, begin, end):
        return any(how == signal.SIGKILL and begin <= began + took + AFTERMATH and end >= began
                   for how, began, _, took in self.restarts)

    def log_lines(self):
        return self.log.read_text(errors="replace").splitlines()


def ask(port, path, der, timeout):
    """One answer over a connection of its own; by POST if there is a request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        if der is None:
            connection.request("GET", path, headers={"Connection": "close"})
        else:
            connection.request("POST", "/", der, {"Content-Type": "application/ocsp-request", "Connection": "close"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise ValueError(f"HTTP {answer.status}")
        return body
    except http.client.HTTPException as error:
        raise ConnectionError(repr(error)) from error
    finally:
        connection.close()
