CREATE MATERIALIZED VIEW q AS
SELECT event_date, amount – 1 AS less FROM transactions
