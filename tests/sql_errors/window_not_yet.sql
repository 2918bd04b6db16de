-- error: 4:6: `HOP` is not supported yet; write `TUMBLE(table, time, INTERVAL '1 minute')`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM HOP(transactions, event_time, INTERVAL '10 seconds', INTERVAL '1 minute')
