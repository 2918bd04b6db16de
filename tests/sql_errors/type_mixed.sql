-- error: 3:22: a value of DECIMAL(20,2) and one of STRING do not go together; CAST one of them
CREATE MATERIALIZED VIEW q AS
SELECT max(amount) + city AS n, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
