-- error: 4:6: no stream or view `customers`; there is `transactions`, `by_minute`, `large`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM customers
