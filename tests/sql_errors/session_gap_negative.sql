-- error: 4:49: the session's gap must be positive
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM SESSION(transactions, event_time, INTERVAL '-1 second')
