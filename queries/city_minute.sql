-- Spend and fraud per city and minute: the live map, and the finest grain dashboards and Athena read.
-- Grouped by state too, because thirty city names of the data set occur in two or three states.
CREATE MATERIALIZED VIEW city_minute
WITH (partition_by = 'event_date', allowed_lateness = '10 seconds')
AS SELECT window_start,
          window_end,
          CAST(window_start AS DATE) AS event_date,
          state,
          city,
          count(*) AS transactions,
          sum(amount) AS amount,
          count(*) FILTER (WHERE is_fraud) AS fraud_transactions,
          coalesce(sum(amount) FILTER (WHERE is_fraud), 0) AS fraud_amount
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
   GROUP BY window_start, window_end, state, city;
