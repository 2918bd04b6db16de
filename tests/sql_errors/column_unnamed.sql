-- error: 3:8: `count(*)` is no column name; add `AS name` (lower-case letters, digits, `_`)
CREATE MATERIALIZED VIEW q AS
SELECT count(*), CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
