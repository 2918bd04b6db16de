-- All of them together.
CREATE MATERIALIZED VIEW together
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, count(*) AS n, sum(amount) AS total, avg(amount) AS mean, min(amount) AS least, max(amount) AS most, stddev(latitude) AS spread, count(DISTINCT city) AS cities, approx_distinct(category) AS categories, count(*) FILTER (WHERE is_fraud) AS frauds
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
   GROUP BY window_start, window_end, state
   HAVING count(*) >= 10;
