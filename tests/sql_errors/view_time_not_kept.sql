-- error: 4:20: `large` has no column that tells the time; let its SELECT keep the event time, or `window_start` and `window_end`
CREATE MATERIALIZED VIEW q AS
SELECT CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM TUMBLE(large, event_date, INTERVAL '1 hour')
GROUP BY window_start, window_end
