-- error: 4:25: expected: ), found: transactions; name table and column alone: `TUMBLE(transactions, event_time, INTERVAL '1 minute')`
CREATE MATERIALIZED VIEW q AS
SELECT window_start, CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM TABLE(TUMBLE(TABLE transactions, DESCRIPTOR(event_time), INTERVAL '10' MINUTE)) GROUP BY window_start
