-- error: 3:8: `row_number(…) OVER` is not supported yet in a standing query; write a batch query over the table this one fills
CREATE MATERIALIZED VIEW q AS
SELECT row_number() OVER (ORDER BY window_start) AS n, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
