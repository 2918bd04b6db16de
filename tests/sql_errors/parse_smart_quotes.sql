CREATE MATERIALIZED VIEW q AS
SELECT event_date, city FROM transactions WHERE city = “Toledo”
