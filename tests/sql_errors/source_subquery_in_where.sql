-- error: 5:16: a subquery is not supported here in a standing query; join it, `JOIN (SELECT …) h ON …`, or write a batch query
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM transactions
WHERE city IN (SELECT 'x')
