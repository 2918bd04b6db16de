CREATE MATERIALIZED VIEW q AS
SELECT t.event_date, s.region FROM transactions t
JOIN states FOR SYSTEM_TIME AS OF t.event_time s ON s.state = t.state
