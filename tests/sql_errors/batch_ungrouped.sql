-- error: 2:8: `city` is neither grouped nor aggregated; add it to GROUP BY, or take `min(city)`
SELECT city, count(*) AS n
FROM transactions
GROUP BY state
