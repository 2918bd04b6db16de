-- error: 4:6: no stream or view `by_minut`; did you mean `by_minute`?
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM by_minut
