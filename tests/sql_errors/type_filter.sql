-- error: 2:1: cannot create filter with non-boolean predicate 'transactions.amount' returning Decimal128(20, 2)
CREATE MATERIALIZED VIEW q AS
SELECT event_date, amount
FROM transactions
WHERE amount
