-- error: 3:49: `at` is a time without zone; write `CAST(… AS TIMESTAMP WITH TIME ZONE)`; times are UTC
CREATE MATERIALIZED VIEW q AS
SELECT event_date, to_local_time(event_time) AS at
FROM transactions
