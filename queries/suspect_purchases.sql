-- Purchases of a kind and an amount that stolen cards pay for, by day or night: one in a hundred purchases, but six in
-- seven frauds. Alone they prove little, so this is no alert: `night_burst` and `fraud_score` count them per card.
-- The limits are those of docs/fraud.md: dear goods on line and in shops, a trolley of groceries, a tank that is filled
-- for next to nothing.
CREATE MATERIALIZED VIEW suspect_purchases
WITH (partition_by = 'event_date')
AS SELECT event_time,
          event_date,
          transaction_id,
          card_token,
          merchant,
          category,
          amount,
          date_part('hour', event_time) >= 22 OR date_part('hour', event_time) < 4 AS at_night
   FROM transactions
   WHERE (category IN ('shopping_net', 'shopping_pos', 'misc_net', 'misc_pos') AND amount >= 600)
      OR (category = 'grocery_pos' AND amount >= 250)
      OR (category = 'entertainment' AND amount >= 300)
      OR (category = 'home' AND amount >= 200)
      OR (category = 'gas_transport' AND amount < 25)
      OR (category = 'grocery_net' AND amount < 20);
