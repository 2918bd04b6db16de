-- Sessions of a state: rows of which none follows the one before by more than five seconds.
CREATE MATERIALIZED VIEW window_session
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, count(*) AS n, sum(amount) AS total, count(DISTINCT city) AS cities, count(*) FILTER (WHERE is_fraud) AS frauds
   FROM SESSION(transactions, event_time, INTERVAL '5 seconds', state)
   GROUP BY window_start, window_end, state;
