-- error: 3:58: `'abc'` is no DECIMAL(38,10)
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city FROM transactions WHERE amount > 'abc'
