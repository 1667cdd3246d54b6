-- The same marks under other tools' names. Theirs are means and quantiles over streamed requests that succeeded.
WITH good AS (
    SELECT *, first_token_ns - sent_ns AS ttft, end_ns - sent_ns AS latency
    FROM '{run}/requests.parquet'
    WHERE outcome = 'complete' AND error_kind IS NULL
), span AS (
    SELECT (max(end_ns) - min(sent_ns)) / 1e9 AS seconds FROM good
)
SELECT
    -- vLLM, `vllm bench serve`
    avg(ttft) FILTER (stream) / 1e6 AS mean_ttft_ms,
    avg(tpot_ns) FILTER (stream) / 1e6 AS mean_tpot_ms,
    count(*) / any_value(seconds) AS request_throughput,
    sum(output_tokens) / any_value(seconds) AS output_throughput,
    sum(input_tokens + output_tokens) / any_value(seconds) AS total_token_throughput,
    -- GuideLLM: `inter_token_latency` is per request, first token left out
    avg(itl_mean_ns) FILTER (stream) / 1e6 AS inter_token_latency_ms,
    -- AIPerf
    avg(latency) / 1e6 AS request_latency_ms,
    avg(1e9 / nullif(tpot_ns, 0)) FILTER (stream) AS output_token_throughput_per_user,
    -- MLPerf Inference, server scenario: latency counts from the scheduled time
    quantile_disc(e2e_due_ns, 0.99) / 1e6 AS scheduled_latency_p99_ms
FROM good, span;
