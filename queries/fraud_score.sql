-- The rules together: a card whose points (`card_evidence`) reach seven within 30 hours: two nights and the day between them,
-- from 22:00 to 04:00. Two suspect purchases at night and one by day do, or two at night of which one is far above the card's
-- own history, or seven by day.
-- The window hops by half an hour, the step of `card_evidence`. The alert is raised by the window whose newest half hour
-- carried the sum over seven, so a burst gives one alert until the points have fallen below again.
CREATE MATERIALIZED VIEW fraud_score
WITH (partition_by = 'event_date', allowed_lateness = '10 seconds')
AS SELECT window_start,
          window_end,
          CAST(window_end - INTERVAL '30 minutes' AS DATE) AS event_date,
          card_token,
          'fraud_score' AS rule,
          concat(CAST(sum(points) AS VARCHAR), ' points within 30 hours: ', CAST(sum(purchases) AS VARCHAR),
                 ' suspect purchases for $', CAST(sum(amount) AS VARCHAR), ', ', CAST(sum(night_purchases) AS VARCHAR),
                 ' of them at night, ', CAST(sum(outliers) AS VARCHAR), ' far above the card''s own history') AS evidence,
          sum(points) AS score,
          sum(purchases) AS purchases,
          sum(night_purchases) AS night_purchases,
          sum(outliers) AS outliers,
          sum(amount) AS spend,
          min(first_purchase) AS first_event_time,
          max(last_purchase) AS last_event_time,
          string_agg(transaction_ids, ',' ORDER BY first_purchase) AS transaction_ids
   FROM HOP(card_evidence, window_start, INTERVAL '30 minutes', INTERVAL '30 hours')
   GROUP BY window_start, window_end, card_token
   HAVING sum(points) >= 7
      AND max(last_purchase) >= window_end - INTERVAL '30 minutes'
      AND sum(points) - last_value(points ORDER BY first_purchase) < 7;
