-- error: 4:72: the window's size `1 hour` is not a multiple of its step `7 minutes`; write `INTERVAL '56 minutes'` or `INTERVAL '1 hour 3 minutes'`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM CUMULATE(transactions, event_time, INTERVAL '7 minutes', INTERVAL '1 hour')
