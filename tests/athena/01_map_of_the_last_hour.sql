-- The live map: what each city spent in the last hour of a day.
-- reads at most 55 % by pages, 45 % by row groups
SELECT state, city, sum(transactions) AS transactions, sum(amount) AS amount, sum(fraud_transactions) AS fraud
FROM city_minute
WHERE event_date = DATE '{day}' AND window_start >= TIMESTAMP '{day} 23:00:00'
GROUP BY state, city
