-- Fraud by category and hour of the day, over all days.
-- reads at most 200 % by pages, 70 % by row groups
SELECT category, extract(hour FROM window_start) AS hour, sum(fraud_transactions) AS fraud, sum(transactions) AS transactions
FROM category_hour
GROUP BY category, extract(hour FROM window_start)
