-- Windows that overlap: three minutes, every minute.
CREATE MATERIALIZED VIEW window_hop
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, count(*) AS n, sum(amount) AS total, count(DISTINCT city) AS cities, count(*) FILTER (WHERE is_fraud) AS frauds
   FROM HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '3 minutes')
   GROUP BY window_start, window_end, state;
