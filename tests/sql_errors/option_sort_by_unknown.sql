-- error: 2:44: no column `amuont` to sort by; did you mean `amount`?
CREATE MATERIALIZED VIEW q WITH (sort_by = 'city, amuont')
AS SELECT event_date, city, amount FROM transactions
