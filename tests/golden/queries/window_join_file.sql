-- Two purchases in one shop within a minute, and what a file says of the second one's state: a lookup beside a join of windows.
CREATE MATERIALIZED VIEW window_join_file
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS event_date, a.transaction_id AS one, b.transaction_id AS other, risk.level, risk.weight
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') a
   JOIN TUMBLE(transactions, event_time, INTERVAL '1 minute') b
     ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.merchant = b.merchant AND a.category = b.category AND a.transaction_id < b.transaction_id
   LEFT JOIN 'lookups/risk.csv' risk ON risk.state = b.state AND risk.weight > 1
   WHERE a.is_fraud;
