-- The sum of nothing is 0 where the query says so.
CREATE MATERIALIZED VIEW sum_of_nothing
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, category, coalesce(sum(amount) FILTER (WHERE is_fraud), 0) AS fraud_amount
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
   GROUP BY window_start, window_end, state, category;
