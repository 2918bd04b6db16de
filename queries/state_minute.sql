-- Spend and fraud per state and minute: 51 rows a minute at most, so that a year of it still fits one dashboard query.
CREATE MATERIALIZED VIEW state_minute
WITH (partition_by = 'event_date', allowed_lateness = '10 seconds')
AS SELECT window_start,
          window_end,
          CAST(window_start AS DATE) AS event_date,
          state,
          count(*) AS transactions,
          sum(amount) AS amount,
          count(*) FILTER (WHERE is_fraud) AS fraud_transactions,
          coalesce(sum(amount) FILTER (WHERE is_fraud), 0) AS fraud_amount
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
   GROUP BY window_start, window_end, state;
