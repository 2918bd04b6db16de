-- error: 5:12: a RIGHT JOIN would answer with rows no event has brought; write what flows first, and LEFT JOIN the rest
CREATE MATERIALIZED VIEW q AS
SELECT t.event_date, t.city, m.n
FROM transactions t
RIGHT JOIN by_minute m ON m.city = t.city
