-- error: 3:8: `sum` does not take (Utf8); CAST the arguments
CREATE MATERIALIZED VIEW q AS
SELECT sum(city) AS n, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
