-- error: 3:26: `allowed_lateness` is for windows; without one no row is late; remove the option, or read a window
CREATE MATERIALIZED VIEW q
WITH (allowed_lateness = '1 second')
AS SELECT event_date, city FROM transactions
