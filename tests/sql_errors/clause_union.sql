-- error: 5:11: UNION is not supported yet in a standing query; write a query file for each SELECT
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM transactions
UNION ALL SELECT event_date, city FROM transactions
