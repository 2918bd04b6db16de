-- error: 5:10: the aggregate is not grouped by `window_end`; add it to GROUP BY; without it the answer would never be final
CREATE MATERIALIZED VIEW q AS
SELECT CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, city
