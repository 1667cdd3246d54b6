"""httpx over HTTP/2, chosen by ALPN, through the proxy: many streams at once on one connection."""

import asyncio
import json

import httpx

from support import SCRATCH, TLS, Upstream, record, reenact, json_lines

STREAMS = 20


async def ask(client, url, number):
    body = {"model": "m", "messages": [{"role": "user", "content": f"number {number}"}], "stream": number % 2 == 0}
    answer = await client.post(url + "/v1/chat/completions", json=body)
    return answer.http_version, answer.status_code, answer.content


async def scenario(through, direct):
    # One event loop: the synchronous client's HTTP/2 is not safe to share between threads.
    async with httpx.AsyncClient(http2=True, verify=str(TLS / "ca.pem"), timeout=30) as client:
        answers = await asyncio.gather(*[ask(client, through, number) for number in range(STREAMS)])
        return answers, [await ask(client, direct, number) for number in range(2)]


upstream = Upstream()
trace = SCRATCH / "h2.trace"
proxy = record(upstream.url, trace, "--tls-cert", TLS / "cert.pem", "--tls-key", TLS / "key.pem")
answers, direct = asyncio.run(scenario(f"https://127.0.0.1:{proxy.port}", upstream.url))
assert proxy.stop() == 0, proxy.said

for number, (version, status, content) in enumerate(answers):
    assert (version, status) == ("HTTP/2", 200), (version, status)
    assert content == direct[number % 2][2], content
assert sorted(json.loads(body)["messages"][0]["content"] for _, body in upstream.requests[:STREAMS]) \
    == sorted(f"number {number}" for number in range(STREAMS))

exchanges = json_lines(reenact("trace", "export", trace, "--format", "jsonl"))
assert len(exchanges) == STREAMS
