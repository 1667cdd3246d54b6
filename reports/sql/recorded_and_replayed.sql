-- The replay beside the recording, from the run alone: each row carries its recorded twin.
SELECT
    operation,
    stream,
    count(*) AS requests,
    round(median(recorded_ttft_ns) / 1e6, 2) AS recorded_ttft_ms,
    round(median(ttft_ns) / 1e6, 2) AS ttft_ms,
    round(median(recorded_e2e_ns) / 1e6, 2) AS recorded_e2e_ms,
    round(median(e2e_ns) / 1e6, 2) AS e2e_ms,
    sum(recorded_output_tokens) AS recorded_output_tokens,
    sum(output_tokens) AS output_tokens,
    count(*) FILTER (output_equal) AS outputs_equal,
    count(*) FILTER (status = recorded_status) AS statuses_equal
FROM '{run}/requests.parquet'
GROUP BY ALL
ORDER BY requests DESC;
