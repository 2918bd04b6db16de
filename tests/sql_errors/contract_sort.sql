CREATE MATERIALIZED VIEW declared WITH (sort_by = 'city') AS
SELECT event_date, 1 AS city, amount, event_time AS at
FROM transactions
