-- error: 4:44: the file `tests/sql_errors/lookups/region.csv` cannot be read beside the queries: No such file or directory (os error 2); did you mean `tests/sql_errors/lookups/regions.csv`?
CREATE MATERIALIZED VIEW q AS
SELECT t.event_date, r.region FROM transactions t
JOIN 'tests/sql_errors/lookups/region.csv' r ON r.state = t.state
