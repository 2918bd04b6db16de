-- error: 3:8: `string_agg` depends on the order of rows, which a stream does not keep; write `string_agg(… ORDER BY event_time, …)`, ending with the column that identifies a row
CREATE MATERIALIZED VIEW q AS
SELECT string_agg(city, ',') AS cities, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
