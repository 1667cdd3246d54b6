-- Second by second: sent and ended requests, frames with content, and requests in flight at the end of the second.
WITH seconds AS (
    SELECT unnest(range(0, (SELECT max(end_ns) // 1000000000 + 1 FROM '{run}/requests.parquet'))) AS second
), sent AS (
    SELECT sent_ns // 1000000000 AS second, count(*) AS sent FROM '{run}/requests.parquet' GROUP BY 1
), ended AS (
    SELECT end_ns // 1000000000 AS second, count(*) AS ended FROM '{run}/requests.parquet'
    WHERE sent_ns IS NOT NULL GROUP BY 1
), tokens AS (
    SELECT at_ns // 1000000000 AS second, count(*) AS content_frames FROM '{run}/frames.parquet'
    WHERE content_chars + reasoning_chars + tool_chars > 0 GROUP BY 1
)
SELECT
    second,
    coalesce(sent, 0) AS sent,
    coalesce(ended, 0) AS ended,
    coalesce(content_frames, 0) AS content_frames,
    sum(coalesce(sent, 0) - coalesce(ended, 0)) OVER (ORDER BY second) AS in_flight
FROM seconds
LEFT JOIN sent USING (second)
LEFT JOIN ended USING (second)
LEFT JOIN tokens USING (second)
ORDER BY second;
