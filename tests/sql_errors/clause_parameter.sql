-- error: 5:14: `$city`: a standing query has no parameters; write the value
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM transactions
WHERE city = $city
