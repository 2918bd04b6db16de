-- error: 2:1: two columns are called `window_start`; rename one with AS, or leave a CAST of a grouped column out of GROUP BY
CREATE MATERIALIZED VIEW q AS
SELECT CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end, CAST(window_start AS DATE)
