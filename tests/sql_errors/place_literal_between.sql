-- error: 3:85: `'tomorrow'` is no TIMESTAMP
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city FROM transactions WHERE event_time BETWEEN '2026-01-01' AND 'tomorrow'
