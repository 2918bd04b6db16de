-- error: 3:12: no column `amnt`; did you mean `amount`?
CREATE MATERIALIZED VIEW q AS
SELECT sum(amnt) AS amount, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
