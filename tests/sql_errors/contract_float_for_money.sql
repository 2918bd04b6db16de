-- error: 4:51: `amount` is a float where the contract declares DECIMAL(20,2); CAST what it is computed from; money is never a float
-- error: 4:88: `at` is a time without zone; write `CAST(… AS TIMESTAMP WITH TIME ZONE)`; times are UTC
CREATE MATERIALIZED VIEW declared AS
SELECT event_date, unix_time AS city, latitude AS amount, to_local_time(event_time) AS at
FROM transactions
