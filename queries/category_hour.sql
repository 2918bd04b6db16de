-- Spend and fraud per merchant category and hour: fraud concentrates in a few categories and in the night hours, which
-- is what this table shows at a glance.
CREATE MATERIALIZED VIEW category_hour
WITH (partition_by = 'event_date', allowed_lateness = '10 seconds')
AS SELECT window_start,
          window_end,
          CAST(window_start AS DATE) AS event_date,
          category,
          count(*) AS transactions,
          sum(amount) AS amount,
          count(*) FILTER (WHERE is_fraud) AS fraud_transactions,
          coalesce(sum(amount) FILTER (WHERE is_fraud), 0) AS fraud_amount
   FROM TUMBLE(transactions, event_time, INTERVAL '1 hour')
   GROUP BY window_start, window_end, category;
