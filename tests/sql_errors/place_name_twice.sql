-- error: 3:26: two columns are called `city`; rename one with AS
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city, city FROM transactions
