-- error: 4:6: rows of sessions are not joined: where one ends, only its own rows tell; write `TUMBLE` on both sides; or join the rows in a view without a window, and read that in the session
CREATE MATERIALIZED VIEW q AS
SELECT CAST(a.window_start AS DATE) AS event_date, a.city
FROM SESSION(transactions, event_time, INTERVAL '1 minute') a
JOIN SESSION(transactions, event_time, INTERVAL '1 minute') b
  ON a.window_start = b.window_start AND a.window_end = b.window_end
