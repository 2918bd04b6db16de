-- error: 4:1: QUALIFY is not supported in a standing query; write a batch query
-- error: 4:51: an aggregate over the whole stream never ends; read `TUMBLE(transactions, event_time, INTERVAL '1 minute')`; and group by `window_start`, `window_end`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city FROM transactions QUALIFY count(*) > 1
