#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Stands between a client and a real web server and spoils answers on request.

    fault_proxy.py --upstream 127.0.0.1:8080 [--tls-cert FILE --tls-key FILE]

Its only line of output is the port it listens on and, with a certificate, that of the same with
TLS. It is told what to do over either:

    GET /.control/fault?kind=K&count=N&after=B&value=V&path=P
        the next N answers (default: all from now on) to a GET or PUT of something that ends with P
        are spoiled; a new fault takes the place of the one before
    GET /.control/clear
    GET /.control/log         JSON: every request so far (method, path, range, headers, fault)
    GET /.control/forget      empties the log

Kinds (B bytes of the body are sent as they are before it happens):
    silence      nothing at all is answered
    stall        the head and B bytes, then nothing more
    reset        the head and B bytes, then RST
    short        the head and B bytes, then an orderly end
    garbage      something that is not HTTP
    status       status V, with a Content-Range of "bytes */LENGTH" for 416
    gone-length  416 with another length: the object has shrunk to V bytes
    whole        200 and the whole object, as by a server without ranges
    shifted      the bytes of a range V bytes further on, honestly labelled
    etag         an ETag of V
    longer       a Content-Range with a total that is V bytes longer
    packed       Content-Encoding: gzip
    corrupt      every byte from B on is another one
    slow         V bytes per second
    sigv4        no fault: 403 unless the request is signed with the secret key V
"""

import argparse
import hashlib
import hmac
import http.client
import http.server
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.parse

PIECE = 16 << 10


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.fault = None
        self.log = []

    def take(self, path):
        with self.lock:
            fault = self.fault
            if not fault or fault["count"] == 0 or not path.endswith(fault["path"]):
                return {"kind": "", "after": 0, "value": ""}
            fault["count"] -= 1
            return dict(fault)


STATE = State()


def signature_fits(handler, secret):
    """AWS signature version 4 of a request without a query, as its documentation describes it."""
    words = handler.headers.get("Authorization", "").replace(",", " ").split()
    if not words or words[0] != "AWS4-HMAC-SHA256":
        return False
    fields = dict(word.split("=", 1) for word in words[1:])
    scope = fields["Credential"].split("/")[1:]
    signed = fields["SignedHeaders"].split(";")
    payload = handler.headers.get("x-amz-content-sha256", hashlib.sha256(b"").hexdigest())
    canonical = "\n".join(
        [handler.command, handler.path, ""]
        + [f"{name}:{handler.headers.get(name, '').strip()}" for name in signed]
        + ["", ";".join(signed), payload]
    )
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            handler.headers.get("x-amz-date", ""),
            "/".join(scope),
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = ("AWS4" + secret).encode()
    for part in scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted, fields["Signature"])


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = ""

    def log_message(self, *_args):
        pass

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path.startswith("/.control/"):
            return self.control(url.path, dict(urllib.parse.parse_qsl(url.query)))
        return self.forward(b"")

    do_HEAD = do_GET

    def do_PUT(self):
        self.forward(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def control(self, path, query):
        answer = "ok"
        with STATE.lock:
            if path == "/.control/fault":
                STATE.fault = {
                    "kind": query["kind"],
                    "count": int(query.get("count", "1000000")),
                    "after": int(query.get("after", "0")),
                    "value": query.get("value", ""),
                    "path": query.get("path", ""),
                }
            elif path == "/.control/clear":
                STATE.fault = None
            elif path == "/.control/forget":
                STATE.log = []
            elif path == "/.control/log":
                answer = json.dumps(STATE.log)
        self.plain(200, answer.encode(), {})

    def plain(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def ask(self, body, headers):
        upstream = http.client.HTTPConnection(self.upstream)
        passed = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        passed.update(headers)
        upstream.request(self.command, self.path, body or None, passed)
        return upstream.getresponse()

    def forward(self, body):
        fault = STATE.take(self.path.split("?")[0])
        kind, value = fault["kind"], fault["value"]
        with STATE.lock:
            STATE.log.append(
                {
                    "method": self.command,
                    "path": self.path,
                    "range": self.headers.get("Range", ""),
                    "headers": dict(self.headers.items()),
                    "fault": kind,
                }
            )
        if kind == "silence":
            return self.hang()
        if kind == "garbage":
            self.close_connection = True
            return self.wfile.write(b"220 this is not the server you are looking for\r\n")
        if kind == "sigv4" and not signature_fits(self, value):
            return self.plain(403, b"SignatureDoesNotMatch", {})
        if kind == "status":
            ranges = {"Content-Range": f"bytes */{self.length()}"} if value == "416" else {}
            return self.plain(int(value), b"no\n", ranges)
        if kind == "gone-length":
            return self.plain(416, b"no\n", {"Content-Range": f"bytes */{value}"})
        changed = {}
        if kind == "whole":
            changed["Range"] = "bytes=0-"
        if kind == "shifted":
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            changed["Range"] = f"bytes={int(first) + int(value)}-{int(last) + int(value)}"
        return self.relay(self.ask(body, changed), fault)

    def length(self):
        upstream = http.client.HTTPConnection(self.upstream)
        upstream.request("HEAD", self.path)
        return upstream.getresponse().getheader("Content-Length")

    def relay(self, answer, fault):
        kind, value = fault["kind"], fault["value"]
        self.send_response(200 if kind == "whole" else answer.status)
        for name, text in answer.getheaders():
            low = name.lower()
            if low in ("connection", "date", "server", "transfer-encoding"):
                continue
            if low == "etag" and kind == "etag":
                text = value
            if low == "content-range":
                if kind == "whole":
                    continue
                if kind == "longer":
                    head, total = text.split("/")
                    text = f"{head}/{int(total) + int(value)}"
            self.send_header(name, text)
        if kind == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.body(answer, fault)

    def body(self, answer, fault):
        kind, after = fault["kind"], fault["after"]
        spoiled = kind in ("stall", "reset", "short")
        sent = 0
        began = time.monotonic()
        while True:
            size = min(PIECE, after - sent) if spoiled and sent < after else PIECE
            if spoiled and sent >= after:
                return self.spoil(kind)
            piece = answer.read(size)
            if not piece:
                return None
            if kind == "corrupt" and sent + len(piece) > after:
                good = max(after - sent, 0)
                piece = piece[:good] + bytes(b ^ 0x55 for b in piece[good:])
            try:
                self.wfile.write(piece)
            except OSError:
                self.close_connection = True
                return None
            sent += len(piece)
            if kind == "slow":
                time.sleep(max(0.0, sent / float(fault["value"]) - (time.monotonic() - began)))

    def spoil(self, kind):
        if kind == "stall":
            return self.hang()
        self.close_connection = True
        if kind == "reset":
            self.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            # Past the file objects that would keep it open, and so at once.
            os.close(self.connection.detach())
        return None

    def hang(self):
        # Until the other side gives up.
        self.close_connection = True
        self.connection.settimeout(60)
        try:
            while self.connection.recv(1):
                pass
        except OSError:
            pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, _request, _client_address):
        pass  # clients that go away are what this is about


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    options = parser.parse_args()
    Handler.upstream = options.upstream
    server = Server((options.address, options.port), Handler)
    ports = [server.server_address[1]]
    if options.tls_cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.tls_cert, options.tls_key)
        secure = Server((options.address, 0), Handler)
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        ports.append(secure.server_address[1])
        threading.Thread(target=secure.serve_forever, daemon=True).start()
    # In one piece, whatever the buffering.
    os.write(1, (" ".join(map(str, ports)) + "\n").encode())
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
