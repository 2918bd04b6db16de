-- error: 5:22: an aggregate in WHERE, which looks at one row at a time; write it in HAVING, behind GROUP BY
CREATE MATERIALIZED VIEW q AS
SELECT window_start, CAST(window_start AS DATE) AS event_date, city, count(*) AS n
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
WHERE amount > 1 AND count(*) > 5
GROUP BY window_start, window_end, city
