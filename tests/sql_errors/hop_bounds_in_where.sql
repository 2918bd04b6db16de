-- error: 5:7: `window_start` of `HOP` cannot be used in WHERE, inside an aggregate, or in a grouped expression; use it in SELECT or HAVING; a row counts in windows that are known only when they close
CREATE MATERIALIZED VIEW q AS
SELECT CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM HOP(transactions, event_time, INTERVAL '10 seconds', INTERVAL '1 minute')
WHERE window_start > event_time
GROUP BY window_start, window_end
