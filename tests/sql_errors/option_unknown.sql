-- error: 3:36: no option `alowed_lateness`; did you mean `allowed_lateness`?
CREATE MATERIALIZED VIEW q
WITH (partition_by = 'event_date', alowed_lateness = '1 minute')
AS SELECT event_date, city FROM transactions
