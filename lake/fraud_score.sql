-- One row an alert: a card whose points reached seven. Raised once a burst, by the window in which they did.
CREATE TABLE fraud_score (
  window_start     TIMESTAMP NOT NULL COMMENT 'first instant of the 30 hours looked at, UTC',
  window_end       TIMESTAMP NOT NULL COMMENT 'first instant after them, UTC: when the alert is due',
  event_date       DATE NOT NULL COMMENT 'UTC date of the newest half hour of the window',
  card_token       STRING NOT NULL COMMENT 'keyed token of the card number',
  rule             STRING NOT NULL COMMENT 'which rule fired: the name of this table',
  evidence         STRING NOT NULL COMMENT 'why, in words',
  score            BIGINT NOT NULL COMMENT 'the points of card_evidence in the window',
  purchases        BIGINT NOT NULL COMMENT 'suspect purchases it rests on',
  night_purchases  BIGINT NOT NULL COMMENT 'how many of them at night',
  outliers         BIGINT NOT NULL COMMENT 'how many of them far above the card''s own history',
  spend            DECIMAL(30,2) NOT NULL COMMENT 'their sum, US dollars',
  first_event_time TIMESTAMP NOT NULL COMMENT 'the first of them',
  last_event_time  TIMESTAMP NOT NULL COMMENT 'the last of them',
  transaction_ids  STRING NOT NULL COMMENT 'their transaction ids in order of time, separated by commas'
) WITH (partition_by = 'event_date', sort_by = 'card_token, window_start');
