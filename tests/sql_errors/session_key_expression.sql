-- error: 4:61: a session's key is a column, not `upper(city)`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM SESSION(transactions, event_time, INTERVAL '1 minute', upper(city))
