-- error: 4:73: no column `cty`; did you mean `city`?
CREATE MATERIALIZED VIEW q AS
SELECT t.event_date, s.n FROM transactions t
JOIN (SELECT city, count(*) AS n FROM by_minute GROUP BY city) s USING (cty)
