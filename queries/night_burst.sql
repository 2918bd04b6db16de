-- Two suspect purchases of one card in one night (22:00 to 04:00): thieves spend while the owner sleeps, and nine in ten
-- bursts of fraud look like this. The window is the night's six hours and hops by ten minutes; the alert is raised by
-- the window whose newest ten minutes hold the second purchase, so a night gives one alert, not one a hop.
CREATE MATERIALIZED VIEW night_burst
WITH (partition_by = 'event_date', allowed_lateness = '10 seconds')
AS SELECT window_start,
          window_end,
          CAST(window_end - INTERVAL '10 minutes' AS DATE) AS event_date,
          card_token,
          'night_burst' AS rule,
          concat(CAST(count(*) AS VARCHAR), ' suspect purchases in one night for $', CAST(sum(amount) AS VARCHAR), ': ',
                 string_agg(category, ', ' ORDER BY event_time, transaction_id)) AS evidence,
          count(*) AS purchases,
          count(DISTINCT merchant) AS merchants,
          sum(amount) AS spend,
          min(event_time) AS first_event_time,
          max(event_time) AS last_event_time,
          string_agg(transaction_id, ',' ORDER BY event_time, transaction_id) AS transaction_ids
   FROM HOP(suspect_purchases, event_time, INTERVAL '10 minutes', INTERVAL '6 hours')
   WHERE at_night
   GROUP BY window_start, window_end, card_token
   HAVING count(*) >= 2
      AND (array_agg(event_time ORDER BY event_time, transaction_id))[2] >= window_end - INTERVAL '10 minutes';
