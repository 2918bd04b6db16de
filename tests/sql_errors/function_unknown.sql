-- error: 3:8: no function `coutn`; did you mean `count`?
CREATE MATERIALIZED VIEW q AS
SELECT coutn(*) AS n, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
