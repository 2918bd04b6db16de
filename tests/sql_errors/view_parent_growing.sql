-- error: 4:6: rows of `growing` do not tell their window; let `growing` select `window_start` and `window_end`
CREATE MATERIALIZED VIEW q AS
SELECT window_start, event_date, city
FROM growing
