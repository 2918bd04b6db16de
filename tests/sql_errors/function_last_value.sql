-- error: 3:8: `last_value` depends on the order of rows, which a stream does not keep; write `last_value(… ORDER BY event_time, …)`, ending with the column that identifies a row
CREATE MATERIALIZED VIEW q AS
SELECT last_value(city) AS city, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
