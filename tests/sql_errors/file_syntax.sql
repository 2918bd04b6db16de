-- error: 2:1: expected: an SQL statement, found: SELEC
SELEC 1
