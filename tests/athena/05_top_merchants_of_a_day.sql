-- Star: the fact table by one of its dimensions, one day.
-- reads at most 5 % by pages, 4 % by row groups
SELECT merchant, category, count(*) AS transactions, sum(amount) AS amount
FROM transactions
WHERE event_date = DATE '{day}'
GROUP BY merchant, category
ORDER BY amount DESC
LIMIT 20
