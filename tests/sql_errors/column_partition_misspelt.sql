-- error: 2:49: no column `evnt_date` to partition by; did you mean `event_date`?
CREATE MATERIALIZED VIEW q WITH (partition_by = 'evnt_date') AS
SELECT event_date, city FROM transactions
