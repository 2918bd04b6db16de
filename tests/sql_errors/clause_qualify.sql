-- error: 3:1: QUALIFY is not supported in a standing query; write a batch query
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city FROM transactions QUALIFY count(*) > 1
