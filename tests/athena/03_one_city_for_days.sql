-- A dashboard's line: one city, minute by minute, over all days.
-- reads at most 45 % by pages, 65 % by row groups
SELECT window_start, transactions, amount
FROM city_minute
WHERE state = '{state}' AND city = '{city}' AND event_date BETWEEN DATE '{first}' AND DATE '{last}'
ORDER BY window_start
