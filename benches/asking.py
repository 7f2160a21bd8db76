"""What benches/soak asks with: OCSP requests at a fixed rate, over kept and new connections, each answer compared with the index.

Not wrk: it cannot tell a kept connection that was closed while it was idle, which a client hardly notices, from a request
that was lost.

Runs as a process of its own: reads what it is to ask about from a file, revocations from standard input until that ends, and
prints a line of JSON for each fault and for each leg of a minute.
"""

import collections
import json
import os
import random
import selectors
import socket
import sys
import time
from pathlib import Path

from common import get_path

LEG = 60
PATIENCE = 10
MOST_CONNECTIONS = 256
MOST_EVENTS = 200
# How often a request goes by POST, over a connection of its own, and about the CA that has only a CRL.
POST, NEW, LISTED = 0.1, 0.05, 0.02
GOOD, REVOKED = "good", "revoked"
RESPONSE_STATUS = {1: "malformedRequest", 2: "internalError", 3: "tryLater", 5: "sigRequired", 6: "unauthorized"}
# A revocation has this long to be answered.
ALLOWANCE = 2.0


def http_get(path, close):
    return (f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n" + ("Connection: close\r\n" if close else "") + "\r\n").encode()


def http_post(der, close):
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/ocsp-request\r\nContent-Length: {len(der)}\r\n"
    return (head + ("Connection: close\r\n" if close else "") + "\r\n").encode() + der


def whole(octets):
    """Status code, whether the connection is kept, and the body of a whole HTTP answer; None while octets are missing."""
    end = octets.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = octets[:end].lower()
    at = head.find(b"content-length:")
    length = int(head[at + 15:].split(b"\r", 1)[0]) if at >= 0 else 0
    if len(octets) < end + 4 + length:
        return None
    return int(head[9:12]), b"connection: close" not in head, bytes(octets[end + 4:end + 4 + length])


def said(body, serial):
    """certStatus and nextUpdate of a signed answer about a serial, or a fault's name and None (RFC 6960 4.2.1)."""
    if len(body) < 5 or body[0] != 0x30:
        return "no OCSPResponse", None
    at = 2 + (body[1] & 0x7f if body[1] & 0x80 else 0)
    if body[at:at + 2] != b"\x0a\x01":
        return "no OCSPResponse", None
    if body[at + 2]:
        return RESPONSE_STATUS.get(body[at + 2], "another responseStatus"), None
    at = body.find(bytes([2, len(serial)]) + serial)
    if at < 0:
        return "about another certificate", None
    at += 2 + len(serial)
    status = {0x80: GOOD, 0xa1: REVOKED}.get(body[at], "unknown")
    at += 2 + body[at + 1]
    # thisUpdate, then nextUpdate below its own tag.
    if body[at:at + 2] != b"\x18\x0f" or body[at + 17:at + 21] != b"\xa0\x11\x18\x0f":
        return "no nextUpdate", None
    return status, body[at + 21:at + 36].decode()


class Statuses:
    """What each certificate's answer may be. Times are monotonic, so that processes can share them."""

    def __init__(self, revoked):
        self.revoked = set(revoked)
        # A revocation that is being written has no deadline yet.
        self.deadline = {}

    def may_become_revoked(self, serial):
        self.deadline.setdefault(serial, float("inf"))

    def was_revoked(self, serial, at):
        self.deadline[serial] = at + ALLOWANCE

    def allows(self, serial, status, asked):
        if status == REVOKED:
            return serial in self.revoked or serial in self.deadline
        return status == GOOD and serial not in self.revoked and asked < self.deadline.get(serial, float("inf"))


class Connection:
    def __init__(self, new):
        self.new = new
        self.buffer = bytearray()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.connected = False
        self.request = None


class Request:
    def __init__(self, serial, octets, due):
        self.serial = serial
        self.octets = octets
        self.due = due
        self.begun = time.monotonic()
        self.sent = None


class Load:
    def __init__(self, what):
        self.address = ("127.0.0.1", what["port"])
        self.interval = 1 / what["rate"]
        self.kept = what["connections"]
        self.head = bytes.fromhex(what["head"])
        self.serials = [bytes.fromhex(serial) for serial in what["serials"]]
        self.listed = [(bytes.fromhex(serial), bytes.fromhex(der)) for serial, der in what["listed"]]
        self.statuses = Statuses(bytes.fromhex(serial) for serial in what["revoked"])
        self.selector = selectors.EpollSelector()
        self.idle = collections.deque()
        self.busy = set()
        self.counts = collections.Counter()
        self.latencies = collections.Counter()
        self.events = 0
        self.words = b""
        self.over = False

    def tell(self, **what):
        print(json.dumps(what), flush=True)

    def fault(self, kind, detail=""):
        self.counts[kind] += 1
        self.events += 1
        if self.events <= MOST_EVENTS:
            self.tell(fault=kind, at=time.monotonic(), detail=detail)

    def listen(self):
        """Takes in what the standard input says."""
        try:
            while octets := os.read(0, 65536):
                self.words += octets
            self.over = True
        except BlockingIOError:
            pass
        *lines, self.words = self.words.split(b"\n")
        for line in lines:
            word, serial, at = line.decode().split()
            if word == "may":
                self.statuses.may_become_revoked(bytes.fromhex(serial))
            else:
                self.statuses.was_revoked(bytes.fromhex(serial), float(at))

    def begin(self, due):
        new = random.random() < NEW or not self.idle
        if new and len(self.busy) >= MOST_CONNECTIONS:
            return False
        if random.random() < LISTED:
            serial, der = random.choice(self.listed)
        else:
            serial = random.choice(self.serials)
            der = self.head + serial
        close = new and len(self.idle) + len(self.busy) >= self.kept
        octets = http_post(der, close) if random.random() < POST else http_get(get_path(der), close)
        request = Request(serial, octets, due)
        if new:
            self.connect(request)
        else:
            self.send(self.idle.popleft(), request)
        return True

    def connect(self, request):
        connection = Connection(new=True)
        connection.request = request
        self.busy.add(connection)
        self.counts["connections"] += 1
        connection.socket.connect_ex(self.address)
        self.selector.register(connection.socket, selectors.EVENT_WRITE, connection)

    def send(self, connection, request):
        connection.request = request
        self.busy.add(connection)
        request.sent = time.monotonic()
        try:
            if connection.socket.send(request.octets) != len(request.octets):
                self.broken(connection, "a request was not taken whole")
        except OSError as error:
            self.broken(connection, str(error))

    def drop(self, connection):
        self.busy.discard(connection)
        try:
            self.selector.unregister(connection.socket)
        except KeyError:
            pass
        connection.socket.close()

    def broken(self, connection, why):
        """The connection ended. Whoever asked over a kept one, and heard nothing, asks again (RFC 9112 9.3.1)."""
        request, connection.request = connection.request, None
        self.drop(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        if request is None:
            self.counts["closed idle"] += 1
        elif connection.buffer:
            self.fault("cut short", why)
        elif connection.new:
            self.fault("refused" if not connection.connected else "no answer", why)
        else:
            self.counts["asked again"] += 1
            self.connect(request)

    def readable(self, connection):
        try:
            octets = connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            return self.broken(connection, str(error))
        if not octets:
            return self.broken(connection, "closed")
        connection.buffer += octets
        if answer := whole(connection.buffer):
            request, connection.request = connection.request, None
            if request is None:
                self.fault("an answer that nobody asked for")
                return self.drop(connection)
            self.judge(request, *answer)
            connection.buffer.clear()
            connection.new = False
            self.busy.discard(connection)
            if answer[1] and len(self.idle) < self.kept and b"Connection: close" not in request.octets:
                self.idle.append(connection)
            else:
                self.counts["closed"] += 1
                self.drop(connection)

    def judge(self, request, code, _, body):
        now = time.monotonic()
        micros = int((now - request.due) * 1e6)
        shift = max(0, micros.bit_length() - 5)
        self.latencies[micros >> shift << shift] += 1
        self.counts["answers"] += 1
        if code != 200:
            return self.fault(f"HTTP {code}", request.serial.hex())
        status, next_update = said(body, request.serial)
        if next_update is None:
            return self.fault(status, request.serial.hex())
        if next_update <= time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() - 1)):
            self.fault("past nextUpdate", request.serial.hex())
        if not self.statuses.allows(request.serial, status, request.sent):
            self.listen()
            if not self.statuses.allows(request.serial, status, request.sent):
                self.fault("wrong", f"{status}: {request.serial.hex()}")

    def ready(self, connection, mask):
        if not connection.connected:
            error = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                return self.broken(connection, os.strerror(error))
            connection.connected = True
            self.selector.modify(connection.socket, selectors.EVENT_READ, connection)
            self.send(connection, connection.request)
        elif mask & selectors.EVENT_READ:
            self.readable(connection)

    def impatient(self, now):
        for connection in [c for c in self.busy if c.request and c.request.begun < now - PATIENCE]:
            connection.request = None
            self.drop(connection)
            self.fault(f"no answer within {PATIENCE} s")

    def leg(self, seconds):
        self.tell(leg=seconds, counts=self.counts, latencies=self.latencies)
        self.counts.clear()
        self.latencies.clear()

    def run(self):
        os.set_blocking(0, False)
        self.selector.register(0, selectors.EVENT_READ, None)
        began = looked = time.monotonic()
        due = began
        while not self.over:
            now = time.monotonic()
            while due <= now and self.begin(due):
                due += self.interval
            for key, mask in self.selector.select(max(0.0, due - time.monotonic())):
                if key.data is None:
                    self.listen()
                else:
                    self.ready(key.data, mask)
            if now > looked + 1:
                looked = now
                self.impatient(now)
            if now > began + LEG:
                self.leg(now - began)
                began = now
        self.leg(time.monotonic() - began)



if __name__ == "__main__":
    Load(json.loads(Path(sys.argv[1]).read_text())).run()
