"""A real WebSocket client and server through the proxy: sizes at every border of the framing, fragments, compression, pings and
closes arrive as sent, and each frame is a frame of the record.

The Autobahn suite would be the usual judge here; its package (25.10.1) is for Python 2 and can't be imported by any other.
"""

import asyncio

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from support import SCRATCH, record, reenact, json_lines

FRAGMENTS = ["one ", "two ", "three", ""]  # the last one ends the message
SIZES = [0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 20]


async def echo(socket):
    async for message in socket:
        if message == "fragments":
            await socket.send(FRAGMENTS[:3])
        elif message == "leave":
            await socket.close(4001, "as asked")
        else:
            await socket.send(message)


async def talk(url, compression):
    async with connect(url, compression=compression, max_size=None) as socket:
        for size in SIZES:
            for message in ["\u00e9" * (size // 2) + "x" * (size % 2), bytes(range(256)) * (size // 256) + bytes(size % 256)]:
                await socket.send(message)
                assert await socket.recv() == message, size
        await socket.send("fragments")
        assert [piece async for piece in socket.recv_streaming()] == FRAGMENTS
        await socket.send([b"a", b"", b"b" * 70000])
        assert await socket.recv() == b"a" + b"b" * 70000
        await (await socket.ping(b"there?"))
        await socket.send("leave")
        try:
            await socket.recv()
            raise AssertionError("still open")
        except websockets.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "as asked")


async def scenario():
    async with serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        proxy = record(f"http://127.0.0.1:{port}", trace)
        url = f"ws://127.0.0.1:{proxy.port}/v1/realtime"
        for compression in [None, "deflate"]:
            await talk(url, compression)
        # Many at once, and one whose client vanishes in the middle.
        await asyncio.gather(*[talk(url, None) for _ in range(8)])
        vanishing = await connect(url)
        await vanishing.send("x")
        vanishing.transport.abort()
    return proxy


trace = SCRATCH / "websockets.trace"
proxy = asyncio.run(scenario())
assert proxy.stop() == 0, proxy.said

exchanges = json_lines(reenact("trace", "export", trace, "--format", "jsonl"))
assert len(exchanges) == 11, len(exchanges)
assert all(exchange["response"]["status"] == 101 for exchange in exchanges)


def header(size):
    return 2 if size < 126 else 4 if size < 65536 else 10


def lengths(frames):
    return [length for _, _, length in frames]


# One that is held no longer (a mebibyte) is recorded in the pieces in which it came; each of the others is one.
small = [size for size in SIZES if size < 1 << 20 for _ in ["text", "bytes"]]
plain = exchanges[0]
assert lengths(plain["request_frames"])[:len(small)] == [header(size) + 4 + size for size in small]
assert lengths(plain["response_frames"])[:len(small)] == [header(size) + size for size in small]
# Fragments, the echo of fragments, the pong and the close, at the end.
ending = [2 + 4, 2 + 4, 2 + 5, 2, 10 + 70001, 2 + 6, 2 + 2 + 8]
assert lengths(plain["response_frames"])[-len(ending):] == ending, plain["response_frames"]
