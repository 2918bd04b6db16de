-- error: 5:18: grouping sets are not supported in a standing query; write a query file for each
CREATE MATERIALIZED VIEW q AS
SELECT CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY ROLLUP (window_start, window_end)
