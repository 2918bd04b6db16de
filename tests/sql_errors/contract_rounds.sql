-- error: 3:64: `amount` is DECIMAL(20,3) in the query, DECIMAL(20,2) in the contract; CAST it, or change the contract of `declared`
CREATE MATERIALIZED VIEW declared AS
SELECT event_date, 1 AS city, CAST(amount AS DECIMAL(20,3)) AS amount, event_time AS at
FROM transactions
