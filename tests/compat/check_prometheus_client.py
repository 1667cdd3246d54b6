"""Prometheus' own Python parser reads the metrics page, and finds what passed; asked over a Unix socket."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from support import SCRATCH, Upstream, record

EXPECTED_KINDS = {
    "reenact_requests": "counter",
    "reenact_exchanges": "counter",
    "reenact_open_exchanges": "gauge",
    "reenact_oldest_exchange_seconds": "gauge",
    "reenact_added_latency_seconds": "histogram",
    "reenact_queue_high_water_bytes": "gauge",
}

upstream = Upstream()
sock = SCRATCH / "admin.sock"
proxy = record(upstream.url, SCRATCH / "a.trace", "--admin", f"unix:{sock}")
with httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}", timeout=30) as client:
    for stream in (True, False):
        client.post("/v1/chat/completions", json={"model": "m", "messages": [], "stream": stream})
    client.get("/nothing")

with httpx.Client(transport=httpx.HTTPTransport(uds=str(sock)), base_url="http://admin", timeout=30) as admin:
    answer = admin.get("/metrics")
    status = admin.get("/status").json()
assert answer.headers["content-type"].startswith("text/plain; version=0.0.4"), answer.headers
families = {family.name: family for family in text_string_to_metric_families(answer.text)}
for name, kind in EXPECTED_KINDS.items():
    assert families[name].type == kind, (name, families[name].type)
for family in families.values():
    assert family.name.startswith("reenact_") and family.documentation.endswith("."), family.name
    assert family.samples, f"{family.name} says nothing"


def value(family, name, **labels):
    found = [sample.value for sample in families[family].samples if sample.name == name and sample.labels == labels]
    assert len(found) == 1, (name, labels, found)
    return found[0]


assert value("reenact_requests", "reenact_requests_total") == 3
assert value("reenact_responses", "reenact_responses_total", by="upstream", **{"class": "2xx"}) == 2
assert value("reenact_responses", "reenact_responses_total", by="upstream", **{"class": "4xx"}) == 1
assert value("reenact_added_latency_seconds", "reenact_added_latency_seconds_count") == 3
buckets = [sample.value for sample in families["reenact_added_latency_seconds"].samples if sample.name.endswith("_bucket")]
assert buckets == sorted(buckets) and buckets[-1] == 3, buckets
assert status["exchanges"]["requests"] == 3 and status["recording"]["state"] == "running", status
assert proxy.stop() == 0, proxy.said
