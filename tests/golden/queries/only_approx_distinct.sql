-- approx_distinct alone.
CREATE MATERIALIZED VIEW only_approx_distinct
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, approx_distinct(city) AS cities
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
   GROUP BY window_start, window_end, state;
