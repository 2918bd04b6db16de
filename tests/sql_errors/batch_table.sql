-- error: 3:6: no table `transaction`; did you mean `transactions`?
SELECT amount
FROM transaction
WHERE amount > 1
