-- error: 2:1: no column `event_date` to partition by; add one, like `CAST(window_start AS DATE) AS event_date`
CREATE MATERIALIZED VIEW q AS
SELECT count(*) AS n
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
