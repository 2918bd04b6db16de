-- error: 4:6: `SESSION` takes other arguments; write `SESSION(table, time, INTERVAL '30 minutes', key)`: the gap, then the columns that sessions are of
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM SESSION(transactions, event_time)
