-- Right answers: by operation and model, the share of answers that are as recorded, and in what the others differ.
SELECT
    operation,
    model_sent,
    count(answer_equal) AS compared,
    round(avg(answer_equal::INT) * 100, 2) AS answer_equal_pct,
    round(avg(status_equal::INT) * 100, 2) AS status_equal_pct,
    round(avg(finish_reason_equal::INT) * 100, 2) AS finish_reason_equal_pct,
    round(avg(tool_shape_equal::INT) * 100, 2) AS tool_shape_equal_pct,
    round(avg(output_equal::INT) * 100, 2) AS output_equal_pct,
    round(avg(output_tokens_diff), 2) AS output_tokens_diff_mean
FROM '{run}/requests.parquet'
GROUP BY ALL
ORDER BY compared DESC;
