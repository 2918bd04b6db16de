-- error: 4:7: a subquery is not supported yet in a standing query; write one SELECT directly over `transactions` or `TUMBLE(transactions, …)`; or make the subquery a view of its own and read that
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM (SELECT * FROM transactions) t
