-- GPU energy between the first and the last reading: by the counter where there is one, else by power over time.
WITH readings AS (
    SELECT
        gpu, at_ns, power_w, energy_j,
        (at_ns - lag(at_ns) OVER (PARTITION BY gpu ORDER BY at_ns)) / 1e9 AS elapsed_s
    FROM '{run}/gpu.parquet'
), by_gpu AS (
    SELECT
        gpu,
        avg(power_w) AS mean_w,
        coalesce(max(energy_j) - min(energy_j), sum(power_w * elapsed_s)) AS joules
    FROM readings
    GROUP BY gpu
), tokens AS (
    SELECT sum(output_tokens) AS output_tokens FROM '{run}/requests.parquet'
)
SELECT
    gpu,
    round(mean_w, 1) AS mean_w,
    round(joules, 1) AS joules,
    output_tokens,
    round(joules / nullif(output_tokens, 0), 4) AS joules_per_output_token
FROM by_gpu, tokens
ORDER BY gpu;
