-- error: 5:98: no column `card_tokn`; did you mean `card_token`?
CREATE MATERIALIZED VIEW q AS
SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, card_token, a.amount AS first
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') AS a
JOIN TUMBLE(transactions, event_time, INTERVAL '1 minute') AS b USING (window_start, window_end, card_tokn)
