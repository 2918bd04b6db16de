-- error: 3:8: `city` is neither grouped nor aggregated; add it to GROUP BY, or take `min(city)`
CREATE MATERIALIZED VIEW q AS
SELECT city, count(*) AS n, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
