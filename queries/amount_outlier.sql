-- A purchase far above what this card pays in this category: more than four standard deviations over the mean of its
-- history, which must hold ten purchases. The history is the card's closed days in the lake, so a day's own purchases
-- never vouch for each other. Said as soon as the purchase is read; most alerts are people who bought something dear,
-- which is why `fraud_score` weighs this evidence with other.
CREATE MATERIALIZED VIEW amount_outlier
WITH (partition_by = 'event_date')
AS SELECT t.event_time,
          t.event_date,
          t.transaction_id,
          t.card_token,
          'amount_outlier' AS rule,
          concat('$', CAST(t.amount AS VARCHAR), ' for ', t.category, ', where ', CAST(h.purchases AS VARCHAR),
                 ' purchases of this card cost $', CAST(CAST(h.usual AS DECIMAL(20,2)) AS VARCHAR), ' on average, give or take $',
                 CAST(CAST(h.spread AS DECIMAL(20,2)) AS VARCHAR)) AS evidence,
          t.merchant,
          t.category,
          t.amount,
          h.purchases AS history_purchases,
          h.usual AS usual_amount,
          h.spread AS usual_spread
   FROM transactions AS t
   JOIN (SELECT card_token,
                category,
                sum(purchases) AS purchases,
                CAST(sum(amount) AS DOUBLE) / sum(purchases) AS usual,
                sqrt(greatest(CAST(sum(amount_squares) AS DOUBLE) / sum(purchases)
                              - power(CAST(sum(amount) AS DOUBLE) / sum(purchases), 2), 0)) AS spread
         FROM card_category_day
         GROUP BY card_token, category) AS h
     ON h.card_token = t.card_token AND h.category = t.category
   WHERE h.purchases >= 10
     AND CAST(t.amount AS DOUBLE) > h.usual + 4 * h.spread;
