-- error: 4:6: no stream or view `customers`; there is `transactions`, `by_minute`, `growing`, `large`, `untold`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM customers
