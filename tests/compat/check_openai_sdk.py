"""The OpenAI Python SDK, unchanged, through the proxy: over HTTP/1.1 and over TLS on both sides, what the upstream gets
and what the client gets equal a direct connection, and each event arrives when it was sent."""

import base64
import random
import time

import httpx
import openai

from support import GAP_S, SCRATCH, TLS, Upstream, end_to_end, record, reenact

IMAGE = "data:image/png;base64," + base64.b64encode(random.Random(1).randbytes(200_000)).decode()
HELLO = [{"role": "user", "content": "hello"}]
SECRET = "sk-this-must-not-be-written-anywhere"


def scenario(base_url):
    """What a program does with the SDK; returns all that it got, and the arrival times of the streamed events."""
    verify = str(TLS / "ca.pem") if base_url.startswith("https") else True
    got, arrivals = [], []
    with httpx.Client(verify=verify) as http, \
            openai.OpenAI(base_url=base_url + "/v1", api_key=SECRET, max_retries=0, http_client=http) as client:
        got.append(client.models.list().model_dump())
        chat = client.chat.completions
        got.append(chat.create(model="m", messages=HELLO).model_dump())
        for event in chat.create(model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}):
            arrivals.append(time.monotonic())
            got.append(event.model_dump())
        image = [{"role": "user", "content": [{"type": "text", "text": "what is this?"},
                                              {"type": "image_url", "image_url": {"url": IMAGE}}]}]
        got.append(chat.create(model="m", messages=image).model_dump())
        with chat.with_streaming_response.create(model="m", messages=image, stream=True) as response:
            got.append((sorted(set(response.headers) - {"transfer-encoding"}), response.read()))
        got.append(client.completions.create(model="m", prompt="once upon").model_dump())
        got.append(client.embeddings.create(model="m", input="hi").model_dump())
        try:
            chat.create(model="busy", messages=HELLO)
        except openai.RateLimitError as error:
            got.append((str(error), error.response.headers["retry-after"]))
    return got, arrivals


def check(name, tls, *options):
    upstream = Upstream(tls)
    direct, _ = scenario(upstream.url)
    sent_directly, upstream.requests, upstream.sent = upstream.requests, [], []

    trace = SCRATCH / f"{name}.trace"
    proxy = record(upstream.url, trace, *options)
    through, arrivals = scenario(f"{'https' if tls else 'http'}://127.0.0.1:{proxy.port}")
    assert proxy.stop() == 0, proxy.said

    assert through == direct, "the client got something else"
    assert len(upstream.requests) == len(sent_directly)
    for (head, body), (direct_head, direct_body) in zip(upstream.requests, sent_directly):
        assert body == direct_body, head
        assert end_to_end(head) == end_to_end(direct_head), (head, direct_head)

    # The SDK hides [DONE]. An event that came later than the next one was sent was held back.
    sent = upstream.sent[:len(arrivals)]
    late = [arrival - at for arrival, at in zip(arrivals, sent)]
    assert len(arrivals) > 10 and max(late) < GAP_S, late

    assert SECRET.encode() not in trace.read_bytes()
    jsonl = reenact("trace", "export", trace, "--format", "jsonl")
    assert SECRET not in jsonl and len(jsonl.splitlines()) == len(upstream.requests)


check("plain", False)
check("tls", True, "--tls-cert", TLS / "cert.pem", "--tls-key", TLS / "key.pem", "--upstream-ca", TLS / "ca.pem")
