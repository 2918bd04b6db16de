-- A card that buys dear things faster than people do: three purchases of $200 and more at three merchants, $1,500 in
-- all, within six hours. The window hops by half an hour, which bounds the delay; the alert is raised by the window whose
-- newest half hour holds the third purchase, so a burst gives one alert, not one a hop.
-- Smaller purchases are left out: they hardly add to the spend, and without them the ids fit in memory at any rate.
CREATE MATERIALIZED VIEW card_velocity
WITH (partition_by = 'event_date', allowed_lateness = '10 seconds')
AS SELECT window_start,
          window_end,
          CAST(window_end - INTERVAL '30 minutes' AS DATE) AS event_date,
          card_token,
          'card_velocity' AS rule,
          concat(CAST(count(*) AS VARCHAR), ' purchases of $200 and more at ', CAST(count(DISTINCT merchant) AS VARCHAR),
                 ' merchants for $', CAST(sum(amount) AS VARCHAR), ' within 6 hours') AS evidence,
          count(*) AS purchases,
          count(DISTINCT merchant) AS merchants,
          sum(amount) AS spend,
          min(event_time) AS first_event_time,
          max(event_time) AS last_event_time,
          string_agg(transaction_id, ',' ORDER BY event_time, transaction_id) AS transaction_ids
   FROM HOP(transactions, event_time, INTERVAL '30 minutes', INTERVAL '6 hours')
   WHERE amount >= 200
   GROUP BY window_start, window_end, card_token
   HAVING count(*) >= 3
      AND count(DISTINCT merchant) >= 3
      AND sum(amount) >= 1500
      AND (array_agg(event_time ORDER BY event_time, transaction_id))[3] >= window_end - INTERVAL '30 minutes';
