"""DuckDB opens every Parquet file of a run and of an exported trace, and every query that the project shows runs: those
of README.md (its ```sql blocks) and of reports/sql. Two replays of one trace send the same digest."""

import json
import re

import duckdb
import openai

from support import ROOT, SCRATCH, Process, record, reenact

TURNS = 12
FILES = ["requests", "frames", "gpu", "host", "server_metrics"]


def traffic(url):
    client = openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0)
    for number in range(TURNS):
        asked = {"model": "sim", "messages": [{"role": "user", "content": f"question {number}"}], "max_tokens": 16}
        if number % 2:
            list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked))
        else:
            client.chat.completions.create(**asked)


def queries():
    """(name, text) of every query, with `{run}` for a run folder and `{trace}` for an exported trace."""
    readme = (ROOT / "README.md").read_text()
    for number, text in enumerate(re.findall(r"```sql\n(.*?)```", readme, re.DOTALL)):
        yield f"README query {number}", text
    for path in sorted((ROOT / "reports/sql").glob("*.sql")):
        yield path.name, path.read_text()


server = Process("simulate", "--listen", "127.0.0.1:0", "--itl-ms", "1")
url = f"http://127.0.0.1:{server.port}"
trace = SCRATCH / "some.trace"
proxy = record(url, trace)
traffic(f"http://127.0.0.1:{proxy.port}")
assert proxy.stop() == 0, proxy.said

runs = [SCRATCH / "run-1", SCRATCH / "run-2"]
for run in runs:
    # A busy machine makes a run INVALID (3); what it wrote is whole all the same.
    reenact("replay", trace, "--target", url, "--out", run, "--speed", "4", "--scrape", url + "/metrics", status=(0, 3))
digests = {json.loads((run / "run.json").read_text())["sent_digest"] for run in runs}
assert len(digests) == 1 and "" not in digests, digests
exported = SCRATCH / "exported"
reenact("trace", "export", trace, "--format", "parquet", "--out", exported)
assert server.stop() == 0, server.said

base = duckdb.connect()


def one(query):
    return base.execute(query).fetchone()


for folder in runs:
    for name in FILES:
        assert base.execute(f"DESCRIBE SELECT * FROM '{folder}/{name}.parquet'").fetchall(), name
counted = one(f"SELECT count(*), count(ttft_ns), count(output_tokens) FROM '{runs[0]}/requests.parquet'")
assert counted == (TURNS, TURNS, TURNS), counted
joined = one(f"""SELECT count(*), bool_and(r.output_equal) FROM '{runs[0]}/requests.parquet' r
                      JOIN '{exported}/requests.parquet' t USING (exchange)
                      WHERE r.recorded_status = t.status AND r.recorded_output_tokens = t.output_tokens""")
assert joined == (TURNS, True), joined
assert one(f"SELECT count(*) FROM '{runs[0]}/frames.parquet'")[0] > TURNS

ran = 0
for name, text in queries():
    text = text.replace("{run}", str(runs[0])).replace("{other}", str(runs[1])).replace("{trace}", str(exported))
    try:
        base.execute(text).fetchall()
    except duckdb.Error as error:
        raise AssertionError(f"{name}: {error}") from error
    ran += 1
assert ran > 3, "no queries found"
