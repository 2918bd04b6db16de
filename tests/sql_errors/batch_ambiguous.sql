-- error: 2:8: column `amount` is in more than one table; qualify it: `table.amount`
SELECT amount
FROM transactions AS a JOIN transactions AS b USING (transaction_id)
