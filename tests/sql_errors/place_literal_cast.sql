-- error: 3:25: `'x'` is no INT
CREATE MATERIALIZED VIEW q AS
SELECT event_date, CAST('x' AS INT) AS x FROM transactions
