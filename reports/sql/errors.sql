-- Errors by kind, whose fault they are, and the first of each.
SELECT
    coalesce(error_kind, outcome) AS kind,
    status,
    fault,
    count(*) AS requests,
    min(exchange) AS first_exchange,
    arg_min(error, exchange) AS first_text
FROM '{run}/requests.parquet'
WHERE outcome <> 'complete' OR error_kind IS NOT NULL
GROUP BY ALL
ORDER BY requests DESC;
