-- error: 4:6: `declared` is a table of the lake that no view fills, so it does not flow; read `transactions`, or write a batch query
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM declared
