-- The hundred longest gaps between frames, with the GPU reading that came last before each ended.
WITH gaps AS (
    SELECT
        exchange, round, frame, at_ns,
        at_ns - lag(at_ns) OVER (PARTITION BY exchange, round ORDER BY frame) AS gap_ns
    FROM '{run}/frames.parquet'
    WHERE content_chars + reasoning_chars + tool_chars > 0
), longest AS (
    SELECT * FROM gaps WHERE gap_ns IS NOT NULL ORDER BY gap_ns DESC LIMIT 100
), gpus AS (
    -- Each GPU has readings of its own; those of the same tenth of a second belong together.
    SELECT
        max(at_ns) AS at_ns,
        avg(utilization_pct) AS utilization_pct,
        sum(power_w) AS power_w,
        min(sm_clock_mhz) AS sm_clock_mhz,
        string_agg(DISTINCT nullif(throttle_reasons, ''), '|') AS throttle_reasons
    FROM '{run}/gpu.parquet'
    GROUP BY at_ns // 100000000
)
SELECT
    longest.exchange,
    longest.frame,
    round(longest.gap_ns / 1e6, 2) AS gap_ms,
    round(longest.at_ns / 1e9, 3) AS at_s,
    gpus.utilization_pct,
    gpus.power_w,
    gpus.sm_clock_mhz,
    gpus.throttle_reasons
FROM longest
ASOF LEFT JOIN gpus ON longest.at_ns >= gpus.at_ns
ORDER BY gap_ms DESC;
