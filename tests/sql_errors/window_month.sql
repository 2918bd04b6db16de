-- error: 4:48: the window's size: `1 month` has no fixed length; write it in days, hours, minutes or seconds
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transactions, event_time, INTERVAL '1 month')
