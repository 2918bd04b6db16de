-- Spend per card, category and day. One row a closed window and group: final, appended once.
CREATE TABLE card_category_day (
  window_start   TIMESTAMP NOT NULL COMMENT 'first instant of the day, UTC',
  window_end     TIMESTAMP NOT NULL COMMENT 'first instant after the day, UTC',
  event_date     DATE NOT NULL COMMENT 'UTC date of window_start',
  card_token     STRING NOT NULL COMMENT 'keyed token of the card number',
  category       STRING NOT NULL COMMENT 'what was bought',
  purchases      BIGINT NOT NULL COMMENT 'how many',
  amount         DECIMAL(30,2) COMMENT 'their sum, US dollars',
  amount_squares DECIMAL(38,4) COMMENT 'the sum of their squares: with the two columns before it, a mean and a deviation'
) WITH (partition_by = 'event_date', sort_by = 'card_token, category', row_group_rows = '65536');
