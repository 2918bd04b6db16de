-- error: 4:6: no table function `generate_series`; write `TUMBLE(transactions, event_time, INTERVAL '1 minute')`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM generate_series(1, 10)
