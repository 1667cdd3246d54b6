"""What the checks share: a scripted upstream that keeps what it was sent, and the `reenact` processes."""

import atexit
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

REENACT = os.environ["REENACT"]
ROOT = Path(os.environ["ROOT"])
SCRATCH = Path(os.environ["SCRATCH"])
TLS = Path(os.environ["TLS"])
CHECK_S = 240  # a check that takes longer is stuck
START_S = 30  # a process that has not said its address by then is stuck
GAP_S = 0.05  # between the events of a scripted stream

# Fields that a proxy may change (RFC 9110, 7.6.1), and the address, which names the peer.
HOP_BY_HOP = {b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade", b"host", b"via"}


def stuck(*_):
    raise TimeoutError(f"not done after {CHECK_S} s")


signal.signal(signal.SIGALRM, stuck)
signal.alarm(CHECK_S)


def chat_events(text, usage=True):
    """The events of a streamed chat answer, a word each."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}

    def event(**fields):
        return b"data: " + json.dumps({**head, **fields}, separators=(",", ":")).encode() + b"\n\n"

    def choice(delta, finish=None):
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    yield event(choices=choice({"role": "assistant", "content": ""}))
    for word in text.split(" "):
        yield event(choices=choice({"content": word + " "}))
    yield event(choices=choice({}, "stop"))
    if usage:
        tokens = len(text.split(" "))
        yield event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens})
    yield b"data: [DONE]\n\n"


class Upstream:
    """An HTTP/1.1 server on a thread per connection. `requests` holds (head lines, body) as received, `sent` the
    monotonic time at which each event was written."""

    def __init__(self, tls=False):
        self.requests, self.sent = [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.context = None
        if tls:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
        self.port = self.listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            stream = connection.makefile("rb")
            while head := read_head(stream):
                body = read_body(stream, head)
                self.requests.append((head, body))
                self.answer(connection, head[0].split(b" ")[1], body)
        except (OSError, ssl.SSLError):
            pass
        finally:
            connection.close()

    def answer(self, connection, target, body):
        asked = json.loads(body) if body.startswith(b"{") else {}
        if asked.get("model") == "busy":
            reply(connection, 429, {"error": {"message": "slow down", "type": "rate_limit_error", "code": None}},
                  b"Retry-After: 1\r\n")
        elif target.endswith(b"/models"):
            reply(connection, 200, {"object": "list", "data": [{"id": "scripted", "object": "model", "created": 1,
                                                                "owned_by": "nobody"}]})
        elif target.endswith(b"/embeddings"):
            reply(connection, 200, {"object": "list", "model": "scripted", "usage": {"prompt_tokens": 2, "total_tokens": 2},
                                    "data": [{"object": "embedding", "index": 0, "embedding": "AACAPwAAAEA="}]})
        elif target.endswith(b"/chat/completions") and asked.get("stream"):
            self.stream(connection)
        elif target.endswith(b"/chat/completions"):
            reply(connection, 200, {
                "id": "chatcmpl-2", "object": "chat.completion", "created": 1, "model": "scripted",
                "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "h\u00e9llo to you"}}]})
        elif target.endswith(b"/completions"):
            reply(connection, 200, {
                "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "scripted",
                "usage": {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4},
                "choices": [{"index": 0, "text": "and then", "finish_reason": "length", "logprobs": None}]})
        else:
            reply(connection, 404, {"error": {"message": "no such path"}})

    def stream(self, connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nX-Empty: \r\n"
                           b"x-request-id: r-1\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in chat_events("the quick brown fox jumps over the lazy dog"):
            time.sleep(GAP_S)
            self.sent.append(time.monotonic())
            connection.sendall(b"%x\r\n%s\r\n" % (len(event), event))
        connection.sendall(b"0\r\n\r\n")


def reply(connection, status, value, more=b""):
    body = json.dumps(value).encode()
    connection.sendall(b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nx-request-id: r-2\r\n%sContent-Length: %d\r\n\r\n%s"
                       % (status, more, len(body), body))


def read_head(stream):
    """The lines of a head without their ends, or nothing when the peer has left."""
    lines = []
    while (line := stream.readline()) not in (b"\r\n", b""):
        lines.append(line.rstrip(b"\r\n"))
    return lines


def fields(head):
    return [tuple(line.split(b":", 1)) for line in head[1:]]


def read_body(stream, head):
    named = {name.lower(): value.strip() for name, value in fields(head)}
    if b"content-length" in named:
        return stream.read(int(named[b"content-length"]))
    body = b""
    if named.get(b"transfer-encoding") == b"chunked":
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    return body


def end_to_end(head):
    """The head without what a proxy may change: request line, then fields in order, names as they came."""
    return head[:1] + [line for line in head[1:] if line.split(b":", 1)[0].lower() not in HOP_BY_HOP]


class Process:
    """A `reenact` process that serves; its address is what it says on stderr."""

    def __init__(self, *args):
        self.said = ""
        self.process = subprocess.Popen([REENACT, *map(str, args)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        atexit.register(self.process.kill)  # a check that fails must not leave it behind
        deadline = time.monotonic() + START_S
        while not (found := re.search(r"127\.0\.0\.1:(\d+)", self.said)):
            assert time.monotonic() < deadline, f"no address in: {self.said}"
            if select.select([self.process.stderr], [], [], 0.1)[0]:
                piece = os.read(self.process.stderr.fileno(), 65536).decode()
                assert piece, f"{args} ended with {self.process.wait()}: {self.said}"
                self.said += piece
        self.port = int(found[1])
        self.drain = threading.Thread(target=self._drain, daemon=True)
        self.drain.start()

    def _drain(self):
        while piece := os.read(self.process.stderr.fileno(), 65536):
            self.said += piece.decode()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(START_S)
        self.drain.join(START_S)
        return status


class Recording(Process):
    """A recording proxy; its trace is verified when it stops."""

    def __init__(self, upstream_url, out, *more):
        self.out = out
        super().__init__("record", "--listen", "127.0.0.1:0", "--upstream", upstream_url, "--out", out, *more)

    def stop(self):
        status = super().stop()
        reenact("trace", "verify", self.out)
        return status


def record(upstream_url, out, *more):
    return Recording(upstream_url, out, *more)


def reenact(*args, status=(0,)):
    """Runs a verb to its end and returns its stdout; its exit status is one of `status`."""
    done = subprocess.run([REENACT, *map(str, args)], capture_output=True, stdin=subprocess.DEVNULL, timeout=300)
    assert done.returncode in status, f"{args} ended with {done.returncode}: {done.stderr.decode()}"
    return done.stdout.decode()


def json_lines(text):
    return [json.loads(line) for line in text.splitlines() if line.strip()]
