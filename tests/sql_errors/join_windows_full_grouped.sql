-- error: 5:11: a FULL JOIN that is grouped loses the windows of rows without a match; group each side in a view of its own; or write LEFT JOIN
CREATE MATERIALIZED VIEW q AS
SELECT a.window_start, CAST(a.window_start AS DATE) AS event_date, count(*) AS n
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') a
FULL JOIN TUMBLE(transactions, event_time, INTERVAL '1 minute') b
  ON a.window_start = b.window_start AND a.window_end = b.window_end
GROUP BY a.window_start, a.window_end
