-- Our own error: how late requests left, by ten-second windows. A run whose lateness grows was asked for too much.
SELECT
    due_ns // 10000000000 * 10 AS from_s,
    count(*) AS requests,
    round(quantile_disc(lateness_ns, 0.5) / 1e3, 1) AS p50_us,
    round(quantile_disc(lateness_ns, 0.99) / 1e3, 1) AS p99_us,
    round(max(lateness_ns) / 1e3, 1) AS max_us
FROM '{run}/requests.parquet'
WHERE lateness_ns IS NOT NULL
GROUP BY 1
ORDER BY 1;
