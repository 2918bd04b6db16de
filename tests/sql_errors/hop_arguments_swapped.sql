-- error: 4:64: the window's size `1 minute` is not a multiple of its slide `1 hour`; write `INTERVAL '1 hour'`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM HOP(transactions, event_time, INTERVAL '1 hour', INTERVAL '1 minute')
