-- Points against a card, half an hour at a time: one for each suspect purchase, two more at night, one more when the amount
-- is far above the card's own history in the category (the limit of `amount_outlier`; a card without history gets none).
-- Its rows are what `fraud_score` adds up, half an hour being the step in which it looks.
CREATE MATERIALIZED VIEW card_evidence
WITH (partition_by = 'event_date', allowed_lateness = '10 seconds')
AS SELECT window_start,
          window_end,
          CAST(window_start AS DATE) AS event_date,
          s.card_token,
          count(*) AS purchases,
          count(*) FILTER (WHERE s.at_night) AS night_purchases,
          count(*) FILTER (WHERE h.purchases >= 10 AND CAST(s.amount AS DOUBLE) > h.usual + 4 * h.spread) AS outliers,
          count(*) + 2 * count(*) FILTER (WHERE s.at_night)
            + count(*) FILTER (WHERE h.purchases >= 10 AND CAST(s.amount AS DOUBLE) > h.usual + 4 * h.spread) AS points,
          sum(s.amount) AS amount,
          min(s.event_time) AS first_purchase,
          max(s.event_time) AS last_purchase,
          string_agg(s.transaction_id, ',' ORDER BY s.event_time, s.transaction_id) AS transaction_ids
   FROM TUMBLE(suspect_purchases, event_time, INTERVAL '30 minutes') AS s
   LEFT JOIN (SELECT card_token,
                     category,
                     sum(purchases) AS purchases,
                     CAST(sum(amount) AS DOUBLE) / sum(purchases) AS usual,
                     sqrt(greatest(CAST(sum(amount_squares) AS DOUBLE) / sum(purchases)
                                   - power(CAST(sum(amount) AS DOUBLE) / sum(purchases), 2), 0)) AS spread
              FROM card_category_day
              GROUP BY card_token, category) AS h
     ON h.card_token = s.card_token AND h.category = s.category
   GROUP BY window_start, window_end, s.card_token;
