-- error: 4:6: no table function `HOPPING`; did you mean `HOP`?
CREATE MATERIALIZED VIEW q AS
SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM HOPPING(transactions, event_time, INTERVAL '1 minute', INTERVAL '10 minutes') GROUP BY window_start, window_end
