-- error: 3:22: no column `citty`; did you mean `city`?
CREATE MATERIALIZED VIEW q AS
SELECT t.event_date, t.citty FROM transactions AS t
