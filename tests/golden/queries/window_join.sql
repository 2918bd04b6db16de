-- Purchases of one kind in one shop by holders of different states within a minute: windows joined with the same windows.
CREATE MATERIALIZED VIEW window_join
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS event_date, a.transaction_id AS one, b.transaction_id AS other, a.amount + b.amount AS amount
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') a
   JOIN TUMBLE(transactions, event_time, INTERVAL '1 minute') b
     ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.merchant = b.merchant AND a.category = b.category AND a.state < b.state;
