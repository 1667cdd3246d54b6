-- The recorded traffic itself, joined to its replay: `trace export --format parquet` has the same columns.
SELECT
    exchange,
    recorded.status AS recorded_status,
    replayed.status,
    round(recorded.e2e_ns / 1e6, 2) AS recorded_e2e_ms,
    round(replayed.e2e_ns / 1e6, 2) AS e2e_ms,
    round((replayed.e2e_ns - recorded.e2e_ns) / 1e6, 2) AS slower_by_ms,
    recorded.response_frames AS recorded_frames,
    replayed.response_frames AS frames
FROM '{trace}/requests.parquet' AS recorded
JOIN '{run}/requests.parquet' AS replayed USING (exchange)
ORDER BY slower_by_ms DESC NULLS LAST
LIMIT 50;
