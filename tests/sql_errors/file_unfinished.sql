-- error: 4:15: expected: an expression, found: EOF
SELECT count(*)
FROM transactions
WHERE amount >
