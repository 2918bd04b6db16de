-- error: 4:6: no stream or view `transactons`; did you mean `transactions`?
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM transactons
