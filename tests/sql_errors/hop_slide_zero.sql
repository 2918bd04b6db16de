-- error: 4:45: the window's slide must be positive
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM HOP(transactions, event_time, INTERVAL '0 seconds', INTERVAL '1 minute')
