-- error: 4:6: rows of `untold` do not tell their window; let `untold` select `window_start` and `window_end`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM untold
