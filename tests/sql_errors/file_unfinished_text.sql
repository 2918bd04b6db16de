-- error: 4:15: unterminated string literal
SELECT count(*)
FROM transactions
WHERE state = 'NY
