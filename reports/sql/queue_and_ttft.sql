-- First tokens beside the server's own queue at that moment (vLLM's names; see server_metrics.parquet for others).
WITH queue AS (
    -- Each metrics page has readings of its own; those of the same second belong together.
    SELECT
        max(at_ns) AS at_ns,
        sum(value) FILTER (name = 'vllm:num_requests_running') AS running,
        sum(value) FILTER (name = 'vllm:num_requests_waiting') AS waiting
    FROM '{run}/server_metrics.parquet'
    GROUP BY at_ns // 1000000000
), sent AS (
    SELECT sent_ns, ttft_ns, input_tokens FROM '{run}/requests.parquet'
    WHERE ttft_ns IS NOT NULL AND stream
)
SELECT
    queue.waiting,
    count(*) AS requests,
    round(avg(queue.running), 1) AS mean_running,
    round(median(ttft_ns) / 1e6, 2) AS median_ttft_ms,
    round(avg(input_tokens), 0) AS mean_input_tokens
FROM sent
ASOF LEFT JOIN queue ON sent.sent_ns >= queue.at_ns
GROUP BY queue.waiting
ORDER BY queue.waiting;
