-- The same exchange in two runs of one trace: what got slower, and was the output still the same?
SELECT
    exchange,
    a.operation,
    round(a.e2e_ns / 1e6, 2) AS first_ms,
    round(b.e2e_ns / 1e6, 2) AS second_ms,
    round(b.e2e_ns / a.e2e_ns, 2) AS ratio,
    a.output_tokens AS first_tokens,
    b.output_tokens AS second_tokens,
    a.output_digest = b.output_digest AS same_output
FROM '{run}/requests.parquet' AS a
JOIN '{other}/requests.parquet' AS b USING (exchange, round)
WHERE a.e2e_ns > 0 AND b.e2e_ns > 0
ORDER BY ratio DESC
LIMIT 50;
