-- The books: one row per epoch and shard, and for each read = written + duplicates + rejected.
CREATE TABLE epochs (
  commit_time     TIMESTAMP NOT NULL COMMENT 'when the epoch was staged',
  commit_date     DATE NOT NULL COMMENT 'UTC date of commit_time',
  epoch           BIGINT NOT NULL COMMENT 'number of the epoch, from 0',
  generation      BIGINT NOT NULL COMMENT 'generation of the writer that decided it',
  kind            STRING NOT NULL COMMENT 'epoch, gap or new_stream',
  source          STRING NOT NULL COMMENT 'the stream or the files',
  shard           STRING NOT NULL COMMENT 'the shard, or the file',
  position_from   STRING NOT NULL COMMENT 'exclusive: a sequence number, trim_horizon or a time',
  position_to     STRING NOT NULL COMMENT 'inclusive; equal to position_from when nothing was read',
  finished        BOOLEAN NOT NULL COMMENT 'the end of the shard has been read',
  read            BIGINT NOT NULL COMMENT 'records read',
  written         BIGINT NOT NULL COMMENT 'rows written to the stream''s table',
  duplicates      BIGINT NOT NULL COMMENT 'records whose identity was known, with the same content',
  rejected        BIGINT NOT NULL COMMENT 'records written to rejects',
  late            BIGINT NOT NULL COMMENT 'of written: rows that at least one closed window refused',
  first_duplicate STRING COMMENT 'position of the first duplicate of this epoch',
  shard_watermark TIMESTAMP COMMENT 'the shard''s greatest event time less the allowed disorder; null before its first row',
  watermark       TIMESTAMP COMMENT 'the stream''s watermark when the epoch was staged; null before the first row',
  lag_ms          BIGINT COMMENT 'commit_time less the shard''s greatest event time, milliseconds; null before its first row'
) WITH (partition_by = 'commit_date', sort_by = 'epoch, source, shard');
