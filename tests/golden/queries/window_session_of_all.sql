-- Sessions of all rows.
CREATE MATERIALIZED VIEW window_session_of_all
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, count(*) AS n, sum(amount) AS total, count(DISTINCT city) AS cities, count(*) FILTER (WHERE is_fraud) AS frauds
   FROM SESSION(transactions, event_time, INTERVAL '1 second')
   GROUP BY window_start, window_end;
