-- error: 4:82: expected: end of statement, found: EMIT; leave it out: the rows of a window are written once, when it has closed
CREATE MATERIALIZED VIEW q AS
SELECT window_start, CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') GROUP BY window_start EMIT ON WINDOW CLOSE
