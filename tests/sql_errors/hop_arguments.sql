-- error: 4:6: `HOP` takes other arguments; write `HOP(table, time, INTERVAL '10 seconds', INTERVAL '1 minute')`: the slide, then the size
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM HOP(transactions, event_time, INTERVAL '1 minute')
