-- error: 4:15: no column `ammount`; did you mean `amount`?
-- error: 6:53: no column `stat`; did you mean `state`?
WITH spend AS (SELECT state, sum(amount) AS amount FROM transactions GROUP BY state)
SELECT state, ammount
FROM spend
WHERE EXISTS (SELECT 1 FROM transactions AS t WHERE t.stat = spend.state)
