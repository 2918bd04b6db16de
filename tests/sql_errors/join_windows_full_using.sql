-- error: 7:6: USING takes the first side's columns, which a FULL JOIN leaves NULL; write `ON b.city = coalesce(a.city, …)`
CREATE MATERIALIZED VIEW q AS
SELECT coalesce(a.window_start, b.window_start) AS window_start, coalesce(a.event_date, b.event_date) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') a
FULL JOIN TUMBLE(transactions, event_time, INTERVAL '1 minute') b
  ON a.window_start = b.window_start AND a.window_end = b.window_end
JOIN declared d USING (city)
