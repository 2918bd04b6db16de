-- error: 3:56: expected: an expression, found: “; write text between straight quotes: `'…'`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city FROM transactions WHERE city = “Toledo”
