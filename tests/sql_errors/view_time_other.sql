-- error: 4:24: a window's time over `by_minute` is not `n`; write `window_start` or `window_end`
CREATE MATERIALIZED VIEW q AS
SELECT CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM TUMBLE(by_minute, n, INTERVAL '1 hour')
GROUP BY window_start, window_end
