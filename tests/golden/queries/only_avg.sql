-- avg of money alone.
CREATE MATERIALIZED VIEW only_avg
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, avg(amount) AS mean
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
   GROUP BY window_start, window_end, state;
