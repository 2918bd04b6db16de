-- Every type there is; it's here so that quotes, "doubled" or not, and back\slashes; survive.
CREATE TABLE every_type (
  at_time     TIMESTAMP NOT NULL COMMENT 'a time; not the end of a statement',
  day         DATE NOT NULL COMMENT 'the card holder''s day',
  a_text      STRING NOT NULL COMMENT 'with a \ and a "quote"',
  a_flag      BOOLEAN COMMENT 'it''s ''quoted'' -- and no comment',
  a_short     SMALLINT COMMENT '`ticked`',
  an_int      INT COMMENT '50 % of $1, {2}',
  a_long      BIGINT COMMENT 'größer',
  a_float     FLOAT COMMENT '\',
  a_double    DOUBLE COMMENT 'a much longer comment than any catalog of Amazon takes for a column, which has to be cut somewhere near its two hundred and fifty-fifth character, so that the table can be made at all, and this one goes on and on and on until it has surely reached that length, whatever it is worth',
  some_money  DECIMAL(20,2),
  a_sum       DECIMAL(38,4) COMMENT '',
  some_bytes  BINARY COMMENT 'raw',
  _epoch      BIGINT NOT NULL COMMENT 'the epoch that committed the row'
) WITH (partition_by = 'day', sort_by = 'a_text, at_time', sinks = 'delta, spectrum, plain');
