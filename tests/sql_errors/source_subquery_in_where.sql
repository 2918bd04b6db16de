-- error: 5:16: a subquery is not supported yet in a standing query; write a batch query over the lake's tables
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM transactions
WHERE city IN (SELECT 'x')
