-- A complaint: one transaction by its id, its day unknown.
-- reads at most 55 % by pages, 55 % by row groups
SELECT event_time, card_token, merchant, amount, is_fraud
FROM transactions
WHERE transaction_id = '{id}'
