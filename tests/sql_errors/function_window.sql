-- error: 3:8: `rank` is a window function, which is not supported yet; write a batch query over the table this one fills
CREATE MATERIALIZED VIEW q AS
SELECT rank() AS n, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
