-- error: 2:49: the partition column `city` must be a DATE, not STRING; write `CAST(… AS DATE) AS city`
CREATE MATERIALIZED VIEW q WITH (partition_by = 'city') AS
SELECT event_date, city FROM transactions
