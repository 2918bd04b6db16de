-- error: 4:6: no table function `CUMULAT`; did you mean `CUMULATE`?
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM CUMULAT(transactions, event_time, INTERVAL '1 minute')
