-- error: 3:1: a query over windows aggregates them; add `GROUP BY window_start, window_end`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
