-- Gaps between neighboring frames with content in the same response, in milliseconds.
WITH content AS (
    SELECT exchange, round, frame, at_ns
    FROM '{run}/frames.parquet'
    WHERE content_chars + reasoning_chars + tool_chars > 0
), gaps AS (
    SELECT at_ns - lag(at_ns) OVER (PARTITION BY exchange, round ORDER BY frame) AS gap_ns
    FROM content
)
SELECT
    count(gap_ns) AS gaps,
    round(avg(gap_ns) / 1e6, 3) AS mean_ms,
    round(quantile_disc(gap_ns, 0.50) / 1e6, 3) AS p50_ms,
    round(quantile_disc(gap_ns, 0.90) / 1e6, 3) AS p90_ms,
    round(quantile_disc(gap_ns, 0.99) / 1e6, 3) AS p99_ms,
    round(quantile_disc(gap_ns, 0.999) / 1e6, 3) AS p999_ms,
    round(max(gap_ns) / 1e6, 3) AS max_ms
FROM gaps;
