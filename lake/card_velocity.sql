-- One row an alert: a card that bought dear things too fast. Raised once a burst, by the window that saw the third purchase.
CREATE TABLE card_velocity (
  window_start     TIMESTAMP NOT NULL COMMENT 'first instant of the six hours looked at, UTC',
  window_end       TIMESTAMP NOT NULL COMMENT 'first instant after them, UTC: when the alert is due',
  event_date       DATE NOT NULL COMMENT 'UTC date of the newest half hour of the window',
  card_token       STRING NOT NULL COMMENT 'keyed token of the card number',
  rule             STRING NOT NULL COMMENT 'which rule fired: the name of this table',
  evidence         STRING NOT NULL COMMENT 'why, in words',
  purchases        BIGINT NOT NULL COMMENT 'how many of $200 and more in the window',
  merchants        BIGINT NOT NULL COMMENT 'how many different merchants they were made at',
  spend            DECIMAL(30,2) NOT NULL COMMENT 'their sum, US dollars',
  first_event_time TIMESTAMP NOT NULL COMMENT 'the first of them',
  last_event_time  TIMESTAMP NOT NULL COMMENT 'the last of them',
  transaction_ids  STRING NOT NULL COMMENT 'their transaction ids in order of time, separated by commas'
) WITH (partition_by = 'event_date', sort_by = 'card_token, window_start');
