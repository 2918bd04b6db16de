-- error: 4:17: expected: one of UPDATE or SHARE, found: SYSTEM_TIME; leave it out: each epoch joins one version of a table, which its slot names
CREATE MATERIALIZED VIEW q AS
SELECT t.event_date, s.region FROM transactions t
JOIN states FOR SYSTEM_TIME AS OF t.event_time s ON s.state = t.state
