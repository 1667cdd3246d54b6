-- Outputs that are not the recorded ones, those that differ earliest first.
SELECT
    exchange,
    model_sent,
    output_differs_at AS differs_at_char,
    output_chars,
    recorded_output_tokens,
    output_tokens,
    recorded_finish_reason,
    finish_reason
FROM '{run}/requests.parquet'
WHERE output_equal = false
ORDER BY output_differs_at NULLS LAST
LIMIT 50;
