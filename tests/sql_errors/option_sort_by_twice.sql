-- error: 2:44: `sort_by`: `city, city`: different column names, separated by commas, are expected
CREATE MATERIALIZED VIEW q WITH (sort_by = 'city, city')
AS SELECT event_date, city FROM transactions
