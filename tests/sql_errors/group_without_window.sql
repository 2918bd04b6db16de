-- error: 6:10: the aggregate is not grouped by `window_start`; add it to GROUP BY; without it the answer would never be final
-- error: 6:10: the aggregate is not grouped by `window_end`; add it to GROUP BY; without it the answer would never be final
CREATE MATERIALIZED VIEW q AS
SELECT event_date, count(*) AS n
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY event_date
