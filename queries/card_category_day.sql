-- What each card usually spends, per category and day: counts, sums and sums of squares, because those add up over any
-- span of days to a mean and a deviation. It is the history that fraud rules compare a purchase with.
CREATE MATERIALIZED VIEW card_category_day
WITH (partition_by = 'event_date', allowed_lateness = '10 seconds')
AS SELECT window_start,
          window_end,
          CAST(window_start AS DATE) AS event_date,
          card_token,
          category,
          count(*) AS purchases,
          sum(amount) AS amount,
          sum(amount * amount) AS amount_squares
   FROM TUMBLE(transactions, event_time, INTERVAL '1 day')
   GROUP BY window_start, window_end, card_token, category;
