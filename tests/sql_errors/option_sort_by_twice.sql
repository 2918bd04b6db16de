CREATE MATERIALIZED VIEW q WITH (sort_by = 'city, city')
AS SELECT event_date, city FROM transactions
