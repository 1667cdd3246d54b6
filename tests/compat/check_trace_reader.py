"""FORMAT.md is enough: a reader in Python (`trace_reader.py`) sees in every golden trace, and in a fresh one, what
`reenact trace export --format jsonl` sees."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pyrage

from support import ROOT, SCRATCH, Upstream, json_lines, record, reenact

READER = Path(__file__).with_name("trace_reader.py")


def check(trace, identity=None):
    keys, flags = ([identity], ["--identity", identity]) if identity else ([], [])
    read = subprocess.run([sys.executable, READER, trace, *keys], capture_output=True, check=True)
    ours = json_lines(reenact("trace", "export", trace, "--format", "jsonl", *flags))
    theirs = json_lines(read.stdout.decode())
    assert len(ours) == len(theirs), (trace, len(ours), len(theirs))
    for mine, other in zip(ours, theirs):
        for key, value in other.items():
            assert mine[key] == value, (trace, mine["exchange"], key)
    return len(ours)


upstream = Upstream()
key = pyrage.x25519.Identity.generate()
key_file = SCRATCH / "identity.txt"
key_file.write_text(f"# public key: {key.to_public()}\n{key}\n")
os.environ["REENACT_IDENTITY"] = str(key_file)
for name, flags, opens in (("fresh", [], None), ("encrypted", ["--encrypt-to", str(key.to_public())], key_file)):
    fresh = SCRATCH / f"{name}.trace"
    proxy = record(upstream.url, fresh, *flags)
    with httpx.Client(base_url=f"http://127.0.0.1:{proxy.port}", timeout=30) as client:
        for stream in (True, False):
            client.post("/v1/chat/completions", json={"model": "m", "messages": [], "stream": stream})
        client.post("/v1/unknown", content=bytes(range(256)) * 400, headers={"content-type": "application/octet-stream"})
    assert proxy.stop() == 0, proxy.said
    assert check(fresh, opens) == 3

traces = [*sorted((ROOT / "fixtures").rglob("*.trace")), *sorted((ROOT / "traces").glob("*.trace"))]
whole = [trace for trace in traces if "damaged" not in str(trace)]
assert whole, "no golden traces"
identity = ROOT / "fixtures/trace/identity.txt"
encrypted = [trace for trace in whole if trace.name.startswith("v2.")]
assert encrypted, "no encrypted golden trace"
for trace in whole:
    check(trace, identity if trace in encrypted else None)
