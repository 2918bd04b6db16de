-- error: 5:7: WHERE leaves out rows after the sessions were formed over all of them; write `count(*) FILTER (WHERE …)` instead; or read the rows through a view with that WHERE
CREATE MATERIALIZED VIEW q AS
SELECT CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM SESSION(transactions, event_time, INTERVAL '1 minute')
WHERE amount > 5
GROUP BY window_start, window_end
