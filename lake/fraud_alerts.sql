-- One row an alert: which rule fired, on which transaction.
CREATE TABLE fraud_alerts (
  event_time     TIMESTAMP NOT NULL COMMENT 'when the card was used',
  event_date     DATE NOT NULL COMMENT 'UTC date of event_time',
  transaction_id STRING NOT NULL COMMENT 'the transaction that raised it',
  card_token     STRING NOT NULL COMMENT 'keyed token of the card number',
  merchant       STRING NOT NULL COMMENT 'name of the merchant',
  category       STRING NOT NULL COMMENT 'what was bought',
  amount         DECIMAL(20,2) NOT NULL COMMENT 'US dollars',
  city           STRING NOT NULL COMMENT 'the card holder''s',
  state          STRING NOT NULL COMMENT 'the card holder''s, two letters',
  rule           STRING NOT NULL COMMENT 'which rule fired'
) WITH (partition_by = 'event_date', sort_by = 'event_time');
