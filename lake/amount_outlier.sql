-- One row an alert: a purchase far above what its card pays in its category, by the history known when it was read.
CREATE TABLE amount_outlier (
  event_time        TIMESTAMP NOT NULL COMMENT 'when the card was used',
  event_date        DATE NOT NULL COMMENT 'UTC date of event_time',
  transaction_id    STRING NOT NULL COMMENT 'the transaction that raised it',
  card_token        STRING NOT NULL COMMENT 'keyed token of the card number',
  rule              STRING NOT NULL COMMENT 'which rule fired: the name of this table',
  evidence          STRING NOT NULL COMMENT 'why, in words',
  merchant          STRING NOT NULL COMMENT 'name of the merchant',
  category          STRING NOT NULL COMMENT 'what was bought',
  amount            DECIMAL(20,2) NOT NULL COMMENT 'US dollars',
  history_purchases BIGINT NOT NULL COMMENT 'purchases of this card in this category on the days known',
  usual_amount      DOUBLE NOT NULL COMMENT 'their mean, US dollars',
  usual_spread      DOUBLE NOT NULL COMMENT 'their standard deviation, US dollars'
) WITH (partition_by = 'event_date', sort_by = 'card_token, event_time');
