-- A dashboard's bars: states of one day.
-- reads at most 45 % by pages, 40 % by row groups
SELECT state, sum(transactions) AS transactions, sum(amount) AS amount
FROM state_minute
WHERE event_date = DATE '{day}'
GROUP BY state
