-- error: 3:22: expressions have incompatible types; has type Decimal128(20, 2); has type Utf8
CREATE MATERIALIZED VIEW q AS
SELECT max(amount) + city AS n, CAST(window_start AS DATE) AS event_date
FROM TUMBLE(transactions, event_time, INTERVAL '1 minute')
GROUP BY window_start, window_end
