-- error: 4:45: the window's slide must be whole days in a time zone, not `6 hours`; write it in days like `INTERVAL '1 day'`, or leave the time zone out
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM HOP(transactions, event_time, INTERVAL '6 hours', INTERVAL '1 day', 'America/New_York')
