-- error: 2:26: a materialized view's name has one part
CREATE MATERIALIZED VIEW lake.alerts AS
SELECT event_date, city FROM transactions
