-- error: 4:27: a window's time over `transactions` is not `unix_time`; write `event_time`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transactions, unix_time, INTERVAL '1 minute')
