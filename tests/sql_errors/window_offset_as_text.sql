-- error: 4:57: the windows' offset is an interval, not `'6 hours'`; write `INTERVAL '6 hours'`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transactions, event_time, INTERVAL '1 day', '6 hours')
