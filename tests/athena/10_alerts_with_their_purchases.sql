-- Alerts of a day, joined with what was bought.
-- reads at most 27 % by pages, 26 % by row groups
SELECT a.transaction_id, a.evidence, t.merchant, t.amount, t.is_fraud
FROM amount_outlier AS a
JOIN transactions AS t ON t.transaction_id = a.transaction_id AND t.event_date = a.event_date
WHERE a.event_date = DATE '{day}' AND t.event_date = DATE '{day}'
