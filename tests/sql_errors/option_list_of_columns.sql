-- error: 2:29: a list of columns after the view's name; name the columns with AS in the SELECT
CREATE MATERIALIZED VIEW q (day, city)
AS SELECT event_date, city FROM transactions
