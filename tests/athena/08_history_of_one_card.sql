-- One card's purchases over all days.
-- reads at most 20 % by pages, 18 % by row groups
SELECT event_time, merchant, category, amount, is_fraud
FROM transactions
WHERE card_token = '{card}' AND event_date BETWEEN DATE '{first}' AND DATE '{last}'
ORDER BY event_time
