-- A view without a window, for the files that read one.
CREATE MATERIALIZED VIEW large AS
SELECT event_date, city, amount FROM transactions WHERE amount > 100
