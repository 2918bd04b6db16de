-- error: 4:48: the window's size must be whole days in a time zone, not `1 hour`; write it in days like `INTERVAL '1 day'`, or leave the time zone out
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transactions, event_time, INTERVAL '1 hour', 'America/New_York')
