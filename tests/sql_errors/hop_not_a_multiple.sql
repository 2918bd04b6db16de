-- error: 4:67: the window's size `1 minute` is not a multiple of its slide `7 seconds`; write `INTERVAL '56 seconds'` or `INTERVAL '1 minute 3 seconds'`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM HOP(transactions, event_time, INTERVAL '7 seconds', INTERVAL '1 minute')
