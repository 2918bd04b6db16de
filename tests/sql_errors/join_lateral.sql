-- error: 3:60: LATERAL makes rows of each row, which a standing query does not; write `JOIN (SELECT …) h ON …`, grouped by what it is joined by
CREATE MATERIALIZED VIEW q AS
SELECT t.event_date, u.n FROM transactions t JOIN LATERAL (SELECT count(*) AS n FROM by_minute s WHERE s.city = t.city) u ON true
