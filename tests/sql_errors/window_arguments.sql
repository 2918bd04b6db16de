-- error: 4:6: `TUMBLE` takes 3 or 4 arguments, not 2; write `TUMBLE(table, time, INTERVAL '1 minute')`; a fourth argument shifts the windows
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transactions, event_time)
