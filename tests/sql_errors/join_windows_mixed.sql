CREATE MATERIALIZED VIEW q AS
SELECT CAST(a.window_start AS DATE) AS event_date, a.city
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') a
JOIN TUMBLE(by_minute, window_start, INTERVAL '1 minute') b
  ON a.window_start = b.window_start AND a.window_end = b.window_end
