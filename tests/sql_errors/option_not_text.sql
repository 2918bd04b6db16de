-- error: 3:22: `partition_by` takes text in quotes, not `event_date`
CREATE MATERIALIZED VIEW q
WITH (partition_by = event_date)
AS SELECT event_date, city FROM transactions
