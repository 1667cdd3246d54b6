-- Time to first token of streamed requests without an error, in milliseconds, by model and operation.
SELECT
    coalesce(model_sent, '(none)') AS model,
    operation,
    count(*) AS requests,
    round(quantile_disc(ttft_ns, 0.50) / 1e6, 2) AS p50_ms,
    round(quantile_disc(ttft_ns, 0.90) / 1e6, 2) AS p90_ms,
    round(quantile_disc(ttft_ns, 0.99) / 1e6, 2) AS p99_ms,
    round(max(ttft_ns) / 1e6, 2) AS max_ms
FROM '{run}/requests.parquet'
WHERE outcome = 'complete' AND error_kind IS NULL AND stream
GROUP BY ALL
ORDER BY requests DESC;
