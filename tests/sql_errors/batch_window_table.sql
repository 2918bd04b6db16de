-- error: 3:13: no table `transaction`; did you mean `transactions`?
SELECT 1
FROM TUMBLE(transaction, event_time, INTERVAL '1 day')
