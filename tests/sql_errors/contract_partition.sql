-- error: 2:56: `partition_by` is `day` here, `event_date` in the contract of `declared`; write 'event_date'
CREATE MATERIALIZED VIEW declared WITH (partition_by = 'day') AS
SELECT event_date, 1 AS city, amount, event_time AS at
FROM transactions
