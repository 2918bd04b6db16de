-- A static file beside the queries: one state has no line in it, another has two.
CREATE MATERIALIZED VIEW static_file
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, risk.level, count(*) AS n, sum(amount) FILTER (WHERE risk.weight > 1) AS weighty, max(risk.weight) AS most
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') t
   LEFT JOIN 'lookups/risk.csv' risk ON risk.state = t.state
   GROUP BY window_start, window_end, risk.level;
