-- error: 3:27: expected: end of statement, found: –; write a minus as `-`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, amount – 1 AS less FROM transactions
