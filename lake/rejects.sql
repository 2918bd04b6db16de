-- What could not be decoded, broke a rule or contradicted an earlier row: kept with the reason, so that it can be mended and sent again.
CREATE TABLE rejects (
  arrival_time  TIMESTAMP NOT NULL COMMENT 'when the stream took the record in',
  arrival_date  DATE NOT NULL COMMENT 'UTC date of arrival_time',
  reason        STRING NOT NULL COMMENT 'why, as a word to group by, like malformed_json, check_failed or conflicting_duplicate',
  field         STRING COMMENT 'the input field or the column at fault, when it is one',
  detail        STRING COMMENT 'what was wrong, in a sentence; never a value of a tokenised field',
  record        BINARY COMMENT 'the record as it arrived, card numbers replaced by their tokens; null when it must not be kept or is not at hand',
  _source       STRING NOT NULL COMMENT 'the stream or the files it came from',
  _shard        STRING NOT NULL COMMENT 'the shard, or the file',
  _sequence     STRING NOT NULL COMMENT 'sequence number in the shard, or offset in the file padded to 20 digits',
  _sub_sequence INT NOT NULL COMMENT 'place among the rows of one record, from 0',
  _epoch        BIGINT NOT NULL COMMENT 'the epoch that committed the row'
) WITH (partition_by = 'arrival_date', sort_by = 'arrival_time');
