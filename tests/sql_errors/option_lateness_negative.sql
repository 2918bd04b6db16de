-- error: 3:26: `allowed_lateness` cannot be negative
CREATE MATERIALIZED VIEW q
WITH (allowed_lateness = '-1 second')
AS SELECT event_date, city FROM transactions
