-- error: 4:66: the window's size is 86400 times its slide, which is more than 10000 pieces; choose a longer slide
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM HOP(transactions, event_time, INTERVAL '1 second', INTERVAL '1 day')
