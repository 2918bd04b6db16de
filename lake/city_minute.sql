-- Spend and fraud per city and minute. One row a closed window and group: final, appended once.
CREATE TABLE city_minute (
  window_start       TIMESTAMP NOT NULL COMMENT 'first instant of the minute, UTC',
  window_end         TIMESTAMP NOT NULL COMMENT 'first instant after the minute, UTC',
  event_date         DATE NOT NULL COMMENT 'UTC date of window_start',
  state              STRING NOT NULL COMMENT 'the card holder''s, two letters',
  city               STRING NOT NULL COMMENT 'the card holder''s; key on state and city',
  transactions       BIGINT NOT NULL COMMENT 'how many',
  amount             DECIMAL(30,2) COMMENT 'their sum, US dollars',
  fraud_transactions BIGINT NOT NULL COMMENT 'how many of them were fraud',
  fraud_amount       DECIMAL(30,2) COMMENT 'the sum of those, US dollars; 0 when there were none'
) WITH (partition_by = 'event_date', sort_by = 'state, city, window_start', row_group_rows = '65536');
