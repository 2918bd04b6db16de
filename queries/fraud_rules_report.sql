-- How good the fraud rules are, by the label they never see: one row a rule, over everything in the lake.
-- A burst is a card's frauds with no more than 48 hours between one and the next: the law behind the data gives a card one
-- burst within two adjacent days. An alert is right when at least half of the transactions it names are fraud; a burst is
-- found when a right alert names one of its frauds. A fraud is caught when an alert names it, or when it comes after the
-- first right alert of its burst, because by then the card can be blocked.
WITH labelled AS (
  SELECT transaction_id, card_token, event_time,
         event_time - lag(event_time) OVER (PARTITION BY card_token ORDER BY event_time, transaction_id)
           > INTERVAL '48 hours' AS begins
  FROM transactions
  WHERE is_fraud
), frauds AS (
  SELECT transaction_id, card_token, event_time,
         count(*) FILTER (WHERE begins) OVER (PARTITION BY card_token ORDER BY event_time, transaction_id) AS burst
  FROM labelled
), alerts AS (
  SELECT rule, card_token, window_end AS raised, transaction_ids FROM card_velocity
  UNION ALL SELECT rule, card_token, window_end, transaction_ids FROM night_burst
  UNION ALL SELECT rule, card_token, event_time, transaction_id FROM amount_outlier
  UNION ALL SELECT rule, card_token, window_end, transaction_ids FROM fraud_score
), named AS (
  SELECT rule, raised, transaction_ids AS alert, unnest(string_to_array(transaction_ids, ',')) AS transaction_id
  FROM alerts
), judged AS (
  SELECT n.rule, n.raised, n.alert, 2 * count(f.transaction_id) >= count(*) AS is_right
  FROM named AS n LEFT JOIN frauds AS f ON f.transaction_id = n.transaction_id
  GROUP BY n.rule, n.raised, n.alert
), found AS (
  SELECT n.rule, f.card_token, f.burst, min(n.raised) AS first_alert
  FROM named AS n
  JOIN judged AS j ON j.rule = n.rule AND j.raised = n.raised AND j.alert = n.alert AND j.is_right
  JOIN frauds AS f ON f.transaction_id = n.transaction_id
  GROUP BY n.rule, f.card_token, f.burst
), caught AS (
  SELECT rule, transaction_id FROM named
  UNION
  SELECT b.rule, f.transaction_id
  FROM found AS b
  JOIN frauds AS f ON f.card_token = b.card_token AND f.burst = b.burst AND f.event_time >= b.first_alert
), by_alert AS (
  SELECT rule, count(*) AS alerts, count(*) FILTER (WHERE is_right) AS right_alerts FROM judged GROUP BY rule
), by_burst AS (
  SELECT rule, count(*) AS bursts_found FROM found GROUP BY rule
), by_fraud AS (
  SELECT c.rule, count(*) AS frauds_caught
  FROM caught AS c JOIN frauds AS f ON f.transaction_id = c.transaction_id
  GROUP BY c.rule
), total AS (
  SELECT (SELECT count(DISTINCT event_date) FROM transactions) AS days,
         (SELECT count(*) FROM frauds) AS frauds,
         (SELECT count(DISTINCT concat(card_token, ' ', CAST(burst AS VARCHAR))) FROM frauds) AS bursts
)
SELECT a.rule,
       a.alerts,
       round(CAST(a.alerts AS DOUBLE) / t.days, 2) AS alerts_per_day,
       a.right_alerts,
       round(100.0 * a.right_alerts / a.alerts, 1) AS precision_percent,
       t.bursts,
       coalesce(b.bursts_found, 0) AS bursts_found,
       round(100.0 * coalesce(b.bursts_found, 0) / t.bursts, 1) AS burst_recall_percent,
       t.frauds,
       coalesce(f.frauds_caught, 0) AS frauds_caught,
       round(100.0 * coalesce(f.frauds_caught, 0) / t.frauds, 1) AS fraud_recall_percent
FROM by_alert AS a
CROSS JOIN total AS t
LEFT JOIN by_burst AS b ON b.rule = a.rule
LEFT JOIN by_fraud AS f ON f.rule = a.rule
ORDER BY a.rule;
