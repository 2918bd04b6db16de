-- error: 4:6: no table function `TUMBEL`; did you mean `TUMBLE`?
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBEL(transactions, event_time, INTERVAL '1 minute')
