-- error: 5:14: no column `amnt`; did you mean `amount`?
-- error: 5:20: no column `citty`; did you mean `city`?
-- error: 8:7: no column `stat`; did you mean `state`?
-- A tab and wide letters before the mistakes.
SELECT	'日本', amnt, citty,
	count(*) AS n
FROM transactions
WHERE stat = 'NY'
GROUP BY category
