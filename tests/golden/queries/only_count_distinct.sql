-- count(distinct) alone: the optimizer must not nest it.
CREATE MATERIALIZED VIEW only_count_distinct
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, count(DISTINCT city) AS cities
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
   GROUP BY window_start, window_end, state;
