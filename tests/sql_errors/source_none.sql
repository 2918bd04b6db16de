-- error: 3:1: a standing query without FROM; write `FROM transactions`
CREATE MATERIALIZED VIEW q AS
SELECT 1 AS one
