-- error: 3:1: SELECT DISTINCT would have to remember every row; group by the columns inside a window
CREATE MATERIALIZED VIEW q AS
SELECT DISTINCT event_date, city FROM transactions
