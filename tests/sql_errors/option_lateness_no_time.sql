-- error: 3:26: `allowed_lateness`: `soon` is no length of time; write one like '10 seconds'
CREATE MATERIALIZED VIEW q
WITH (allowed_lateness = 'soon')
AS SELECT event_date, city FROM transactions
