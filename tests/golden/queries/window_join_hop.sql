-- Frauds in one city within three minutes, looked for every minute: overlapping windows joined with themselves.
CREATE MATERIALIZED VIEW window_join_hop
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS event_date, a.transaction_id AS one, b.transaction_id AS other, a.amount + b.amount AS amount
   FROM HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '3 minutes') a
   JOIN HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '3 minutes') b
     ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.city = b.city AND a.transaction_id < b.transaction_id
   WHERE a.is_fraud AND b.is_fraud;
