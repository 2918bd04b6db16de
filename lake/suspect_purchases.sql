-- One row a purchase of a kind and an amount that stolen cards pay for. No alert yet: see night_burst and fraud_score.
CREATE TABLE suspect_purchases (
  event_time     TIMESTAMP NOT NULL COMMENT 'when the card was used',
  event_date     DATE NOT NULL COMMENT 'UTC date of event_time',
  transaction_id STRING NOT NULL COMMENT 'the transaction',
  card_token     STRING NOT NULL COMMENT 'keyed token of the card number',
  merchant       STRING NOT NULL COMMENT 'name of the merchant',
  category       STRING NOT NULL COMMENT 'what was bought',
  amount         DECIMAL(20,2) NOT NULL COMMENT 'US dollars',
  at_night       BOOLEAN NOT NULL COMMENT 'from 22:00 to 04:00, by the clock of event_time'
) WITH (partition_by = 'event_date', sort_by = 'card_token, event_time');
