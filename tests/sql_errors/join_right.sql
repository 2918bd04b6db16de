CREATE MATERIALIZED VIEW q AS
SELECT t.event_date, t.city, m.n
FROM transactions t
RIGHT JOIN by_minute m ON m.city = t.city
