-- Lakeward's tables in Athena, engine version 3: read through their Delta logs, so that new data and partitions
-- are seen without another statement. A timestamp is `timestamp(3) with time zone` in a table and
-- `timestamp(3)`, UTC, in its view `<table>_v`.
-- Athena runs one statement at a time, each can be run again.
CREATE DATABASE IF NOT EXISTS `lake`;

-- amount_outlier: One row an alert: a purchase far above what its card pays in its category, by the history known when it was read.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`amount_outlier`
LOCATION 's3://bucket/lake/amount_outlier/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."amount_outlier_v" AS
SELECT
  CAST("event_time" AS timestamp) AS "event_time",
  "event_date",
  "transaction_id",
  "card_token",
  "rule",
  "evidence",
  "merchant",
  "category",
  "amount",
  "history_purchases",
  "usual_amount",
  "usual_spread"
FROM "lake"."amount_outlier";

-- card_category_day: Spend per card, category and day. One row a closed window and group: final, appended once.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`card_category_day`
LOCATION 's3://bucket/lake/card_category_day/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."card_category_day_v" AS
SELECT
  CAST("window_start" AS timestamp) AS "window_start",
  CAST("window_end" AS timestamp) AS "window_end",
  "event_date",
  "card_token",
  "category",
  "purchases",
  "amount",
  "amount_squares"
FROM "lake"."card_category_day";

-- card_evidence: What speaks against a card, per half hour in which something does. No alert yet: see fraud_score.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`card_evidence`
LOCATION 's3://bucket/lake/card_evidence/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."card_evidence_v" AS
SELECT
  CAST("window_start" AS timestamp) AS "window_start",
  CAST("window_end" AS timestamp) AS "window_end",
  "event_date",
  "card_token",
  "purchases",
  "night_purchases",
  "outliers",
  "points",
  "amount",
  CAST("first_purchase" AS timestamp) AS "first_purchase",
  CAST("last_purchase" AS timestamp) AS "last_purchase",
  "transaction_ids"
FROM "lake"."card_evidence";

-- card_velocity: One row an alert: a card that bought dear things too fast. Raised once a burst, by the window that saw the third purchase.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`card_velocity`
LOCATION 's3://bucket/lake/card_velocity/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."card_velocity_v" AS
SELECT
  CAST("window_start" AS timestamp) AS "window_start",
  CAST("window_end" AS timestamp) AS "window_end",
  "event_date",
  "card_token",
  "rule",
  "evidence",
  "purchases",
  "merchants",
  "spend",
  CAST("first_event_time" AS timestamp) AS "first_event_time",
  CAST("last_event_time" AS timestamp) AS "last_event_time",
  "transaction_ids"
FROM "lake"."card_velocity";

-- category_hour: Spend and fraud per category and hour. One row a closed window and group: final, appended once.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`category_hour`
LOCATION 's3://bucket/lake/category_hour/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."category_hour_v" AS
SELECT
  CAST("window_start" AS timestamp) AS "window_start",
  CAST("window_end" AS timestamp) AS "window_end",
  "event_date",
  "category",
  "transactions",
  "amount",
  "fraud_transactions",
  "fraud_amount"
FROM "lake"."category_hour";

-- city_minute: Spend and fraud per city and minute. One row a closed window and group: final, appended once.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`city_minute`
LOCATION 's3://bucket/lake/city_minute/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."city_minute_v" AS
SELECT
  CAST("window_start" AS timestamp) AS "window_start",
  CAST("window_end" AS timestamp) AS "window_end",
  "event_date",
  "state",
  "city",
  "transactions",
  "amount",
  "fraud_transactions",
  "fraud_amount"
FROM "lake"."city_minute";

-- city_minute: its export of closed dates as plain Parquet files
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`city_minute_plain` (
  `window_start` timestamp COMMENT 'first instant of the minute, UTC',
  `window_end` timestamp COMMENT 'first instant after the minute, UTC',
  `state` string COMMENT 'the card holder\'s, two letters',
  `city` string COMMENT 'the card holder\'s; key on state and city',
  `transactions` bigint COMMENT 'how many',
  `amount` decimal(30,2) COMMENT 'their sum, US dollars',
  `fraud_transactions` bigint COMMENT 'how many of them were fraud',
  `fraud_amount` decimal(30,2) COMMENT 'the sum of those, US dollars; 0 when there were none'
)
PARTITIONED BY (`event_date` string)
STORED AS PARQUET
LOCATION 's3://bucket/lake_plain/city_minute/'
TBLPROPERTIES ('classification'='parquet', 'projection.enabled'='true', 'projection.event_date.type'='date', 'projection.event_date.format'='yyyy-MM-dd', 'projection.event_date.range'='NOW-1YEARS,NOW');

-- epochs: The books: one row per epoch and shard, and for each read = written + duplicates + rejected.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`epochs`
LOCATION 's3://bucket/lake/epochs/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."epochs_v" AS
SELECT
  CAST("commit_time" AS timestamp) AS "commit_time",
  "commit_date",
  "epoch",
  "generation",
  "kind",
  "source",
  "shard",
  "position_from",
  "position_to",
  "finished",
  "read",
  "written",
  "duplicates",
  "rejected",
  "late",
  "first_duplicate",
  CAST("shard_watermark" AS timestamp) AS "shard_watermark",
  CAST("watermark" AS timestamp) AS "watermark",
  "lag_ms"
FROM "lake"."epochs";

-- fraud_alerts: One row an alert: which rule fired, on which transaction.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`fraud_alerts`
LOCATION 's3://bucket/lake/fraud_alerts/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."fraud_alerts_v" AS
SELECT
  CAST("event_time" AS timestamp) AS "event_time",
  "event_date",
  "transaction_id",
  "card_token",
  "merchant",
  "category",
  "amount",
  "city",
  "state",
  "rule"
FROM "lake"."fraud_alerts";

-- fraud_score: One row an alert: a card whose points reached seven. Raised once a burst, by the window in which they did.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`fraud_score`
LOCATION 's3://bucket/lake/fraud_score/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."fraud_score_v" AS
SELECT
  CAST("window_start" AS timestamp) AS "window_start",
  CAST("window_end" AS timestamp) AS "window_end",
  "event_date",
  "card_token",
  "rule",
  "evidence",
  "score",
  "purchases",
  "night_purchases",
  "outliers",
  "spend",
  CAST("first_event_time" AS timestamp) AS "first_event_time",
  CAST("last_event_time" AS timestamp) AS "last_event_time",
  "transaction_ids"
FROM "lake"."fraud_score";

-- night_burst: One row an alert: suspect purchases of one card in one night. Raised once a night, by the window that saw the second one.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`night_burst`
LOCATION 's3://bucket/lake/night_burst/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."night_burst_v" AS
SELECT
  CAST("window_start" AS timestamp) AS "window_start",
  CAST("window_end" AS timestamp) AS "window_end",
  "event_date",
  "card_token",
  "rule",
  "evidence",
  "purchases",
  "merchants",
  "spend",
  CAST("first_event_time" AS timestamp) AS "first_event_time",
  CAST("last_event_time" AS timestamp) AS "last_event_time",
  "transaction_ids"
FROM "lake"."night_burst";

-- rejects: What could not be decoded, broke a rule or contradicted an earlier row: kept with the reason, so that it can be mended and sent again.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`rejects`
LOCATION 's3://bucket/lake/rejects/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."rejects_v" AS
SELECT
  CAST("arrival_time" AS timestamp) AS "arrival_time",
  "arrival_date",
  "reason",
  "field",
  "detail",
  "record",
  "_source",
  "_shard",
  "_sequence",
  "_sub_sequence",
  "_epoch"
FROM "lake"."rejects";

-- state_minute: Spend and fraud per state and minute. One row a closed window and group: final, appended once.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`state_minute`
LOCATION 's3://bucket/lake/state_minute/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."state_minute_v" AS
SELECT
  CAST("window_start" AS timestamp) AS "window_start",
  CAST("window_end" AS timestamp) AS "window_end",
  "event_date",
  "state",
  "transactions",
  "amount",
  "fraud_transactions",
  "fraud_amount"
FROM "lake"."state_minute";

-- suspect_purchases: One row a purchase of a kind and an amount that stolen cards pay for. No alert yet: see night_burst and fraud_score.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`suspect_purchases`
LOCATION 's3://bucket/lake/suspect_purchases/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."suspect_purchases_v" AS
SELECT
  CAST("event_time" AS timestamp) AS "event_time",
  "event_date",
  "transaction_id",
  "card_token",
  "merchant",
  "category",
  "amount",
  "at_night"
FROM "lake"."suspect_purchases";

-- transactions: Every valid card transaction, once: the log from which everything else in the lake can be rebuilt.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`transactions`
LOCATION 's3://bucket/lake/transactions/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."transactions_v" AS
SELECT
  CAST("event_time" AS timestamp) AS "event_time",
  "event_date",
  "transaction_id",
  "card_token",
  "merchant",
  "category",
  "amount",
  "is_fraud",
  "city",
  "state",
  "zip",
  "first_name",
  "last_name",
  "gender",
  "street",
  "latitude",
  "longitude",
  "city_population",
  "occupation",
  "date_of_birth",
  "unix_time",
  "merchant_latitude",
  "merchant_longitude",
  "_source",
  "_shard",
  "_sequence",
  "_sub_sequence",
  CAST("_arrival_time" AS timestamp) AS "_arrival_time",
  "_epoch",
  "_late"
FROM "lake"."transactions";

-- every_type: Every type there is, it's here so that quotes, "doubled" or not, and back\slashes, survive.
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`every_type`
LOCATION 's3://bucket/lake/every_type/'
TBLPROPERTIES ('table_type'='DELTA');
CREATE OR REPLACE VIEW "lake"."every_type_v" AS
SELECT
  CAST("at_time" AS timestamp) AS "at_time",
  "day",
  "a_text",
  "a_flag",
  "a_short",
  "an_int",
  "a_long",
  "a_float",
  "a_double",
  "some_money",
  "a_sum",
  "some_bytes",
  "_epoch"
FROM "lake"."every_type";

-- every_type: its export of closed dates as plain Parquet files
CREATE EXTERNAL TABLE IF NOT EXISTS `lake`.`every_type_plain` (
  `at_time` timestamp COMMENT 'a time; not the end of a statement',
  `a_text` string COMMENT 'with a \\ and a "quote"',
  `a_flag` boolean COMMENT 'it\'s \'quoted\' -- and no comment',
  `a_short` smallint COMMENT '`ticked`',
  `an_int` int COMMENT '50 % of $1, {2}',
  `a_long` bigint COMMENT 'größer',
  `a_float` float COMMENT '\\',
  `a_double` double COMMENT 'a much longer comment than any catalog of Amazon takes for a column, which has to be cut somewhere near its two hundred and fifty-fifth character, so that the table can be made at all, and this one goes on and on and on until it has surely reached that l…',
  `some_money` decimal(20,2),
  `a_sum` decimal(38,4),
  `some_bytes` binary COMMENT 'raw',
  `_epoch` bigint COMMENT 'the epoch that committed the row'
)
PARTITIONED BY (`day` string)
STORED AS PARQUET
LOCATION 's3://bucket/lake_plain/every_type/'
TBLPROPERTIES ('classification'='parquet', 'projection.enabled'='true', 'projection.day.type'='date', 'projection.day.format'='yyyy-MM-dd', 'projection.day.range'='2026-11-22,NOW');
