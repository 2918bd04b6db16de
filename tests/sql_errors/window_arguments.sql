-- error: 4:6: `TUMBLE` takes other arguments; write `TUMBLE(table, time, INTERVAL '1 minute')`: the size; a fourth argument is an offset or a time zone
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transactions, event_time)
