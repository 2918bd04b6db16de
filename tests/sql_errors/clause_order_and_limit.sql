-- error: 7:10: ORDER BY has no meaning for rows that are added as windows close; sort where you read the table
-- error: 8:7: LIMIT has no meaning for rows that are added as windows close; limit where you read the table
CREATE MATERIALIZED VIEW q AS
SELECT count(*) AS n, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
ORDER BY n
LIMIT 5
