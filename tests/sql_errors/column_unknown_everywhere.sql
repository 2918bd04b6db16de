-- error: 9:7: no option `alowed_lateness`; did you mean `allowed_lateness`?
-- error: 10:67: no column `stat`; did you mean `state`?
-- error: 11:15: no column `amnt`; did you mean `amount`?
-- error: 11:32: no function `averag`
-- error: 11:60: `now` answers differently each time; use the row's `event_time`, or a column; stream and batch would disagree, and so would a restart
-- error: 13:10: no column `mercant`; did you mean `merchant`?
-- error: 15:32: no column `ammount`; did you mean `amount`?
CREATE MATERIALIZED VIEW q
WITH (alowed_lateness = '10 seconds')
AS SELECT window_start, CAST(window_start AS DATE) AS event_date, stat,
          sum(amnt) AS amount, averag(amount) AS mean, max(now()) AS at
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
   WHERE mercant <> ''
   GROUP BY window_start, window_end, state
   HAVING count(*) > 1 AND max(ammount) > 5
