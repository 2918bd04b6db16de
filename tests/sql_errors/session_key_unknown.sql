-- error: 4:61: no column `card_tokn`; did you mean `card_token`?
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM SESSION(transactions, event_time, INTERVAL '1 minute', card_tokn)
