-- error: 6:76: no function `listagg`; write `string_agg(x, ',' ORDER BY …)`
-- error: 7:8: no function `max_by`; write `first_value(x ORDER BY y DESC, …)`
-- error: 7:41: no function `arg_max`; write `first_value(x ORDER BY y DESC, …)`
-- error: 7:79: no function `count_if`; write `count(*) FILTER (WHERE …)`
CREATE MATERIALIZED VIEW q AS
SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, listagg(city) AS cities,
       max_by(city, amount) AS dearest, arg_max(city, amount) AS dearest_too, count_if(amount > 1) AS more
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
