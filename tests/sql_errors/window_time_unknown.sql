-- error: 4:27: no column `event_tim`; did you mean `event_time`?
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transactions, event_tim, INTERVAL '1 minute')
