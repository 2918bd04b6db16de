-- error: 4:61: sessions are formed by `card_token`, so the aggregate is grouped by it, too; add it to GROUP BY
CREATE MATERIALIZED VIEW q AS
SELECT CAST(window_start AS DATE) AS event_date, count(*) AS n
FROM SESSION(transactions, event_time, INTERVAL '1 minute', card_token)
GROUP BY window_start, window_end
