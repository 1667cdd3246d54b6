-- The sending machine: was there CPU to spare? Waiting is the share of the time that our threads stood ready without one.
SELECT
    at_ns // 10000000000 * 10 AS from_s,
    round(avg(cpu_pct), 1) AS cpu_pct,
    round(max(cpu_busiest_pct), 1) AS busiest_cpu_pct,
    round(avg(process_cpu_pct), 1) AS our_cpu_pct,
    round((max(process_run_delay_ns) - min(process_run_delay_ns)) * 100.0 / nullif(max(at_ns) - min(at_ns), 0), 2)
        AS waiting_pct,
    max(process_involuntary_switches) - min(process_involuntary_switches) AS involuntary_switches,
    round(max(process_rss_bytes) / 1e6, 1) AS our_memory_mb
FROM '{run}/host.parquet'
GROUP BY 1
ORDER BY 1;
