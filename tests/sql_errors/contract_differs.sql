-- error: 5:26: no column `amount` DECIMAL(20,2); the contract of `declared` declares it
-- error: 6:20: `city` is STRING in the query, BIGINT in the contract; CAST it, or change the contract of `declared`
-- error: 6:36: `amnt` is not in the contract of `declared`; did you mean `amount`?
-- error: 6:55: `at` is BIGINT in the query, TIMESTAMP in the contract; CAST it, or change the contract of `declared`
CREATE MATERIALIZED VIEW declared AS
SELECT event_date, city, amount AS amnt, unix_time AS at
FROM transactions
