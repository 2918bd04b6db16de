-- What speaks against a card, per half hour in which something does. No alert yet: see fraud_score.
CREATE TABLE card_evidence (
  window_start     TIMESTAMP NOT NULL COMMENT 'first instant of the half hour, UTC',
  window_end       TIMESTAMP NOT NULL COMMENT 'first instant after it, UTC',
  event_date       DATE NOT NULL COMMENT 'UTC date of window_start',
  card_token       STRING NOT NULL COMMENT 'keyed token of the card number',
  purchases        BIGINT NOT NULL COMMENT 'how many suspect purchases: one point each',
  night_purchases  BIGINT NOT NULL COMMENT 'how many of them at night: two more points each',
  outliers         BIGINT NOT NULL COMMENT 'how many of them far above the card''s own history: one more point each',
  points           BIGINT NOT NULL COMMENT 'the points together',
  amount           DECIMAL(30,2) COMMENT 'sum of the suspect purchases, US dollars',
  first_purchase   TIMESTAMP NOT NULL COMMENT 'the first of them',
  last_purchase    TIMESTAMP NOT NULL COMMENT 'the last of them',
  transaction_ids  STRING NOT NULL COMMENT 'their transaction ids in order of time, separated by commas'
) WITH (partition_by = 'event_date', sort_by = 'card_token, window_start');
