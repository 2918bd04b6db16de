-- error: 5:13: windows over the stream close before those over what a view has closed; let a view over the same windows group the stream's rows first, and join the two views
CREATE MATERIALIZED VIEW q AS
SELECT CAST(a.window_start AS DATE) AS event_date, a.city
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') a
JOIN TUMBLE(by_minute, window_start, INTERVAL '1 minute') b
  ON a.window_start = b.window_start AND a.window_end = b.window_end
