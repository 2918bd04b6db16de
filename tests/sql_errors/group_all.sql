-- error: 3:1: GROUP BY ALL is not supported in a standing query; name the columns
CREATE MATERIALIZED VIEW q AS
SELECT CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY ALL
