#!/usr/bin/env python3
"""Many slow clients of event streams through the recording proxy, for minutes: no event may be lost, and neither memory nor
descriptors may grow. Standard library only; prints what it saw every few seconds, and ends with 1 if something did not hold.

    cargo build --release && tests/bench/slow_clients.py --clients 1000 --seconds 180
"""

import argparse
import asyncio
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

EVENT_BYTES = 1000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--reenact", default="target/release/reenact")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=180, help="how long the upstream streams")
    parser.add_argument("--period", type=float, default=0.5, help="seconds between two events of a stream")
    return parser.parse_args()


async def serve(reader, writer):
    """Answers each request of a connection with a stream of numbered events."""
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(HEAD)
            for number in range(int(args.seconds / args.period)):
                event = b"data: %d %s\n\n" % (number, b"x" * EVENT_BYTES)
                writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                await writer.drain()
                await asyncio.sleep(args.period)
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def slow_client(port):
    """Reads in fits and starts from a socket that holds little; returns how many events came, in their order."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    end.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(end, ("127.0.0.1", port))
    await loop.sock_sendall(end, b"GET /v1/stream HTTP/1.1\r\nHost: a\r\n\r\n")
    held, expected = b"", 0
    while not held.endswith(b"0\r\n\r\n"):
        await asyncio.sleep(random.random() * 3)
        # As much as is there, after a while in which it took nothing.
        for _ in range(random.randrange(1, 12)):
            piece = await loop.sock_recv(end, 4096)
            assert piece, f"the stream ended after {expected} events"
            held += piece
            while found := re.search(rb"data: (\d+) x{%d}\n\n\r\n" % EVENT_BYTES, held):
                assert int(found[1]) == expected, f"event {int(found[1])} came for {expected}"
                expected += 1
                held = held[found.end():]
            if held.endswith(b"0\r\n\r\n"):
                break
    end.close()
    return expected


def reading(pid):
    """Resident KiB and open descriptors of the proxy."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]), len(os.listdir(f"/proc/{pid}/fd"))


async def watch(pid, readings):
    while True:
        readings.append(reading(pid))
        print(f"{len(readings) * 5:5} s  {readings[-1][0] / 1024:7.1f} MiB  {readings[-1][1]:5} descriptors", flush=True)
        await asyncio.sleep(5)


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    upstream = server.sockets[0].getsockname()[1]
    folder = tempfile.TemporaryDirectory()
    trace = Path(folder.name) / "slow.trace"
    proxy = subprocess.Popen(
        [args.reenact, "record", "--listen", "127.0.0.1:0", "--upstream", f"http://127.0.0.1:{upstream}", "--out", trace, "--json"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        port = int(re.search(rb"127\.0\.0\.1:(\d+)", proxy.stderr.readline())[1])
        before, readings = reading(proxy.pid), []
        watching = asyncio.create_task(watch(proxy.pid, readings))
        counts = await asyncio.gather(*[slow_client(port) for _ in range(args.clients)])
        watching.cancel()
        await asyncio.sleep(5)
        after = reading(proxy.pid)
        proxy.send_signal(signal.SIGTERM)
        out, err = await asyncio.to_thread(proxy.communicate)
    finally:
        proxy.kill()
    verified = subprocess.run([args.reenact, "trace", "verify", trace], capture_output=True)
    return before, readings, after, counts, json.loads(out), proxy.returncode, verified.returncode


def judge(before, readings, after, counts, summary, status, verified):
    # The first third is for filling up; from there on memory may not grow with what has passed.
    settled = readings[len(readings) // 3:]
    growth = (settled[-1][0] - settled[0][0]) / 1024
    print(f"{args.clients} clients, {sum(counts)} events, {summary['body_bytes'] / 2**20:.0f} MiB of bodies; "
          f"memory {before[0] / 1024:.1f} MiB before, {settled[0][0] / 1024:.1f} settled, {settled[-1][0] / 1024:.1f} at the end; "
          f"descriptors {before[1]} before, {max(count for _, count in readings)} at most, {after[1]} after; lost {summary['lost']}")
    wanted = int(args.seconds / args.period)
    checks = {
        "every event reached every client": all(count == wanted for count in counts),
        "memory is flat": growth < 16,
        "no descriptor is left": after[1] <= before[1] + 4,
        "nothing is missing in the trace": (status, verified) == (0, 0) and summary["exchanges"]["complete"] == args.clients,
    }
    for name, holds in checks.items():
        print("ok  " if holds else "FAIL", name)
    return all(checks.values())


args = options()
# Two ends of each of two connections are here.
resource.setrlimit(resource.RLIMIT_NOFILE, (min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536),) * 2)
sys.exit(0 if judge(*asyncio.run(main())) else 1)
