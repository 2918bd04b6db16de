-- error: 3:20: an aggregate over the whole stream never ends; read `TUMBLE(transactions, event_time, INTERVAL '1 minute')`; and group by `window_start`, `window_end`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, count(*) AS n
FROM transactions
GROUP BY event_date
