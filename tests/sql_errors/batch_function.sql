-- error: 3:8: no function `coutn`; did you mean `count`?
-- error: 3:27: no column `amnt`; did you mean `amount`?
SELECT coutn(*) AS n, sum(amnt) AS amount
FROM transactions
