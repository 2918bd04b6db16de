-- error: 5:7: `amount` is DECIMAL(20,2), and not true or false; compare it with something: `amount > …`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, amount
FROM transactions
WHERE amount
