-- A view over windows that selects neither of their bounds, for the files that read one.
CREATE MATERIALIZED VIEW untold AS
SELECT CAST(window_start AS DATE) AS event_date, city, count(*) AS n
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end, city
