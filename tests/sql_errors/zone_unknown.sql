-- error: 4:57: no time zone `America/New_Yrok`; did you mean `America/New_York`?
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM TUMBLE(transactions, event_time, INTERVAL '1 day', 'America/New_Yrok')
