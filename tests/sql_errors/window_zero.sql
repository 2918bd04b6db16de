-- error: 4:48: the window's size must be positive
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transactions, event_time, INTERVAL '0 seconds')
