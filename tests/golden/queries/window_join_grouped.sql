-- What else was bought in the same city within the minute of a fraud, counted by state: some frauds have no company.
CREATE MATERIALIZED VIEW window_join_grouped
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS event_date, a.state, count(DISTINCT a.transaction_id) AS frauds, count(b.transaction_id) AS company, sum(b.amount) AS amount
   FROM TUMBLE(transactions, event_time, INTERVAL '1 minute') a
   LEFT JOIN TUMBLE(transactions, event_time, INTERVAL '1 minute') b
     ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.city = b.city AND NOT b.is_fraud AND b.amount > 100
   WHERE a.is_fraud
   GROUP BY a.window_start, a.window_end, a.state;
