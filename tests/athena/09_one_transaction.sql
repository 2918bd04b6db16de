-- A complaint: one transaction by its id, its day unknown.
-- reads at most 8 %
SELECT event_time, card_token, merchant, amount, is_fraud
FROM transactions
WHERE transaction_id = '{id}'
