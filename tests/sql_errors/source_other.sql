-- error: 4:6: no stream `customers`; there is `transactions`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM customers
