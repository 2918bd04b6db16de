-- error: 3:41: `cities` is a List(Utf8), which is no type of the lake; CAST it
CREATE MATERIALIZED VIEW q AS
SELECT array_agg(city ORDER BY city) AS cities, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
