-- error: 4:39: the window's size is a literal, not `'1 minute'`; write one like `INTERVAL '1 minute'`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transactions, event_time, '1 minute')
