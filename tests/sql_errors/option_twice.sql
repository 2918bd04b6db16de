-- error: 3:36: option `partition_by` is given twice
CREATE MATERIALIZED VIEW q
WITH (partition_by = 'event_date', partition_by = 'event_date')
AS SELECT event_date, city FROM transactions
