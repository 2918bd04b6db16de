CREATE MATERIALIZED VIEW q WITH (sort_by = 'city, amuont')
AS SELECT event_date, city, amount FROM transactions
