-- One alert for each transaction labelled as fraud, as soon as it is read: what the live page and a webhook show.
-- The label stands in for rules that need no label; `rule` says which one spoke.
CREATE MATERIALIZED VIEW fraud_alerts
WITH (partition_by = 'event_date')
AS SELECT event_time,
          event_date,
          transaction_id,
          card_token,
          merchant,
          category,
          amount,
          city,
          state,
          'label' AS rule
   FROM transactions
   WHERE is_fraud;
