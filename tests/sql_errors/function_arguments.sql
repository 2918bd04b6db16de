-- error: 3:27: `date_trunc` does not take (Utf8); CAST the arguments
CREATE MATERIALIZED VIEW q AS
SELECT count(*) AS n, max(date_trunc('day')) AS d, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
