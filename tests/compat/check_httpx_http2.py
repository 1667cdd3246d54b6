"""httpx over HTTP/2, chosen by ALPN, through the proxy: many streams at once on one connection."""

import concurrent.futures
import json

import httpx

from support import SCRATCH, TLS, Upstream, record, reenact, json_lines

STREAMS = 20


def ask(client, url, number):
    body = {"model": "m", "messages": [{"role": "user", "content": f"number {number}"}], "stream": number % 2 == 0}
    answer = client.post(url + "/v1/chat/completions", json=body)
    return answer.http_version, answer.status_code, answer.content


upstream = Upstream()
trace = SCRATCH / "h2.trace"
proxy = record(upstream.url, trace, "--tls-cert", TLS / "cert.pem", "--tls-key", TLS / "key.pem")
with httpx.Client(http2=True, verify=str(TLS / "ca.pem"), timeout=30) as client, \
        concurrent.futures.ThreadPoolExecutor(STREAMS) as pool:
    url = f"https://127.0.0.1:{proxy.port}"
    answers = list(pool.map(lambda number: ask(client, url, number), range(STREAMS)))
    direct = [ask(client, upstream.url, number) for number in range(2)]
assert proxy.stop() == 0, proxy.said

for number, (version, status, content) in enumerate(answers):
    assert (version, status) == ("HTTP/2", 200), (version, status)
    assert content == direct[number % 2][2], content
assert sorted(json.loads(body)["messages"][0]["content"] for _, body in upstream.requests[:STREAMS]) \
    == sorted(f"number {number}" for number in range(STREAMS))

reenact("trace", "verify", trace)
exchanges = json_lines(reenact("trace", "export", trace, "--format", "jsonl"))
assert len(exchanges) == STREAMS
