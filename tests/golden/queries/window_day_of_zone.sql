-- Days as they are in New York.
CREATE MATERIALIZED VIEW window_day_of_zone
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, count(*) AS n, sum(amount) AS total, count(DISTINCT city) AS cities, count(*) FILTER (WHERE is_fraud) AS frauds
   FROM TUMBLE(transactions, event_time, INTERVAL '1 day', 'America/New_York')
   GROUP BY window_start, window_end, state;
