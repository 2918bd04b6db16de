-- error: 2:51: `sort_by` is `city` here, nothing in the contract of `declared`; leave it to the contract
CREATE MATERIALIZED VIEW declared WITH (sort_by = 'city') AS
SELECT event_date, 1 AS city, amount, event_time AS at
FROM transactions
