-- A dashboard's bars: states of one day.
SELECT state, sum(transactions) AS transactions, sum(amount) AS amount
FROM state_minute
WHERE event_date = DATE '{day}'
GROUP BY state
