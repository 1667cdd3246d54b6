-- Goodput: requests per second that keep both limits, here 500 ms to the first token and 50 ms a token after it.
WITH judged AS (
    SELECT
        due_ns, end_ns,
        outcome = 'complete' AND error_kind IS NULL
            AND coalesce(ttft_due_ns, e2e_due_ns) <= 500e6
            AND coalesce(tpot_ns, 0) <= 50e6 AS kept
    FROM '{run}/requests.parquet'
    WHERE outcome <> 'cancelled'
)
SELECT
    count(*) AS requests,
    count(*) FILTER (kept) AS kept,
    round(count(*) FILTER (kept) * 100.0 / nullif(count(*), 0), 2) AS kept_pct,
    round(count(*) FILTER (kept) / ((max(end_ns) - min(due_ns)) / 1e9), 2) AS goodput_per_s
FROM judged;
