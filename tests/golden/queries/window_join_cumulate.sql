-- How many frauds found company of more than 600 in their city so far: growing windows joined with themselves, and grouped.
CREATE MATERIALIZED VIEW window_join_cumulate
WITH (partition_by = 'event_date', allowed_lateness = '5 seconds')
AS SELECT a.window_start, a.window_end, CAST(a.window_start AS DATE) AS event_date, a.state, count(DISTINCT a.transaction_id) AS frauds, count(b.transaction_id) AS company, sum(b.amount) AS amount
   FROM CUMULATE(transactions, event_time, INTERVAL '1 minute', INTERVAL '5 minutes') a
   LEFT JOIN CUMULATE(transactions, event_time, INTERVAL '1 minute', INTERVAL '5 minutes') b
     ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.city = b.city AND NOT b.is_fraud AND b.amount > 600
   WHERE a.is_fraud
   GROUP BY a.window_start, a.window_end, a.state;
