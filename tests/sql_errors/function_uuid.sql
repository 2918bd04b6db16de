-- error: 3:12: `uuid` answers differently each time; use the row's `event_time`, or a column; stream and batch would disagree, and so would a restart
CREATE MATERIALIZED VIEW q AS
SELECT max(uuid()) AS n, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
