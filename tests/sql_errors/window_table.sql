-- error: 4:13: no stream or view `transaction`; did you mean `transactions`?
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transaction, event_time, INTERVAL '1 minute')
