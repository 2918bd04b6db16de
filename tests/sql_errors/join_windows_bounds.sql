-- error: 5:6: windows are joined window by window; write `ON a.window_start = b.window_start AND a.window_end = b.window_end AND …`
CREATE MATERIALIZED VIEW q AS
SELECT CAST(a.window_start AS DATE) AS event_date, a.city
FROM HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '5 minutes') a
JOIN HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '5 minutes') b
  ON a.window_start = b.window_start AND a.card_token = b.card_token
