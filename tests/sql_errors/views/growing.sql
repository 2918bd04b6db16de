-- A view over windows that share their start, which it selects alone, for the files that read one.
CREATE MATERIALIZED VIEW growing AS
SELECT window_start, CAST(window_start AS DATE) AS event_date, city, count(*) AS n
FROM CUMULATE(transactions, event_time, INTERVAL '1 minute', INTERVAL '1 hour')
GROUP BY window_start, window_end, city
