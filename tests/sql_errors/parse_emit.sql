CREATE MATERIALIZED VIEW q AS
SELECT window_start, CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') GROUP BY window_start EMIT ON WINDOW CLOSE
