-- Lakeward's tables in Redshift Spectrum. Run it in Redshift, outside a transaction.

-- External tables read symlink manifests (`_symlink_format_manifest/`). Times are UTC. CREATE EXTERNAL TABLE knows
-- no IF NOT EXISTS: on a second run it fails where the table is, and the rest still runs.
CREATE EXTERNAL SCHEMA IF NOT EXISTS "spectrum"
FROM DATA CATALOG DATABASE 'lake'
IAM_ROLE 'arn:aws:iam::123456789012:role/lake'
CREATE EXTERNAL DATABASE IF NOT EXISTS;
CREATE SCHEMA IF NOT EXISTS "lake";

-- amount_outlier: One row an alert: a purchase far above what its card pays in its category, by the history known when it was read.
CREATE EXTERNAL TABLE "spectrum"."amount_outlier_spectrum" (
  "event_time" timestamp,
  "transaction_id" varchar(65535),
  "card_token" varchar(65535),
  "rule" varchar(65535),
  "evidence" varchar(65535),
  "merchant" varchar(65535),
  "category" varchar(65535),
  "amount" decimal(20,2),
  "history_purchases" bigint,
  "usual_amount" double precision,
  "usual_spread" double precision
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/amount_outlier/_symlink_format_manifest/';
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
FROM "spectrum"."amount_outlier_spectrum"
WITH NO SCHEMA BINDING;

-- card_category_day: Spend per card, category and day. One row a closed window and group: final, appended once.
CREATE EXTERNAL TABLE "spectrum"."card_category_day_spectrum" (
  "window_start" timestamp,
  "window_end" timestamp,
  "card_token" varchar(65535),
  "category" varchar(65535),
  "purchases" bigint,
  "amount" decimal(30,2),
  "amount_squares" decimal(38,4)
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/card_category_day/_symlink_format_manifest/';
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
FROM "spectrum"."card_category_day_spectrum"
WITH NO SCHEMA BINDING;

-- card_evidence: What speaks against a card, per half hour in which something does. No alert yet: see fraud_score.
CREATE EXTERNAL TABLE "spectrum"."card_evidence_spectrum" (
  "window_start" timestamp,
  "window_end" timestamp,
  "card_token" varchar(65535),
  "purchases" bigint,
  "night_purchases" bigint,
  "outliers" bigint,
  "points" bigint,
  "amount" decimal(30,2),
  "first_purchase" timestamp,
  "last_purchase" timestamp,
  "transaction_ids" varchar(65535)
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/card_evidence/_symlink_format_manifest/';
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
FROM "spectrum"."card_evidence_spectrum"
WITH NO SCHEMA BINDING;

-- card_velocity: One row an alert: a card that bought dear things too fast. Raised once a burst, by the window that saw the third purchase.
CREATE EXTERNAL TABLE "spectrum"."card_velocity_spectrum" (
  "window_start" timestamp,
  "window_end" timestamp,
  "card_token" varchar(65535),
  "rule" varchar(65535),
  "evidence" varchar(65535),
  "purchases" bigint,
  "merchants" bigint,
  "spend" decimal(30,2),
  "first_event_time" timestamp,
  "last_event_time" timestamp,
  "transaction_ids" varchar(65535)
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/card_velocity/_symlink_format_manifest/';
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
FROM "spectrum"."card_velocity_spectrum"
WITH NO SCHEMA BINDING;

-- category_hour: Spend and fraud per category and hour. One row a closed window and group: final, appended once.
CREATE EXTERNAL TABLE "spectrum"."category_hour_spectrum" (
  "window_start" timestamp,
  "window_end" timestamp,
  "category" varchar(65535),
  "transactions" bigint,
  "amount" decimal(30,2),
  "fraud_transactions" bigint,
  "fraud_amount" decimal(30,2)
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/category_hour/_symlink_format_manifest/';
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
FROM "spectrum"."category_hour_spectrum"
WITH NO SCHEMA BINDING;

-- city_minute: Spend and fraud per city and minute. One row a closed window and group: final, appended once.
CREATE EXTERNAL TABLE "spectrum"."city_minute_spectrum" (
  "window_start" timestamp,
  "window_end" timestamp,
  "state" varchar(65535),
  "city" varchar(65535),
  "transactions" bigint,
  "amount" decimal(30,2),
  "fraud_transactions" bigint,
  "fraud_amount" decimal(30,2)
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/city_minute/_symlink_format_manifest/';
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
FROM "spectrum"."city_minute_spectrum"
WITH NO SCHEMA BINDING;

-- city_minute: its export of closed dates as plain Parquet files
CREATE EXTERNAL TABLE "spectrum"."city_minute_plain" (
  "window_start" timestamp,
  "window_end" timestamp,
  "state" varchar(65535),
  "city" varchar(65535),
  "transactions" bigint,
  "amount" decimal(30,2),
  "fraud_transactions" bigint,
  "fraud_amount" decimal(30,2)
)
PARTITIONED BY ("event_date" varchar(10))
STORED AS PARQUET
LOCATION 's3://bucket/lake_plain/city_minute/';

-- epochs: The books: one row per epoch and shard, and for each read = written + duplicates + rejected.
CREATE EXTERNAL TABLE "spectrum"."epochs_spectrum" (
  "commit_time" timestamp,
  "epoch" bigint,
  "generation" bigint,
  "kind" varchar(65535),
  "source" varchar(65535),
  "shard" varchar(65535),
  "position_from" varchar(65535),
  "position_to" varchar(65535),
  "finished" boolean,
  "read" bigint,
  "written" bigint,
  "duplicates" bigint,
  "rejected" bigint,
  "late" bigint,
  "first_duplicate" varchar(65535),
  "shard_watermark" timestamp,
  "watermark" timestamp,
  "lag_ms" bigint
)
PARTITIONED BY ("commit_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/epochs/_symlink_format_manifest/';
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
FROM "spectrum"."epochs_spectrum"
WITH NO SCHEMA BINDING;

-- fraud_alerts: One row an alert: which rule fired, on which transaction.
CREATE EXTERNAL TABLE "spectrum"."fraud_alerts_spectrum" (
  "event_time" timestamp,
  "transaction_id" varchar(65535),
  "card_token" varchar(65535),
  "merchant" varchar(65535),
  "category" varchar(65535),
  "amount" decimal(20,2),
  "city" varchar(65535),
  "state" varchar(65535),
  "rule" varchar(65535)
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/fraud_alerts/_symlink_format_manifest/';
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
FROM "spectrum"."fraud_alerts_spectrum"
WITH NO SCHEMA BINDING;

-- fraud_score: One row an alert: a card whose points reached seven. Raised once a burst, by the window in which they did.
CREATE EXTERNAL TABLE "spectrum"."fraud_score_spectrum" (
  "window_start" timestamp,
  "window_end" timestamp,
  "card_token" varchar(65535),
  "rule" varchar(65535),
  "evidence" varchar(65535),
  "score" bigint,
  "purchases" bigint,
  "night_purchases" bigint,
  "outliers" bigint,
  "spend" decimal(30,2),
  "first_event_time" timestamp,
  "last_event_time" timestamp,
  "transaction_ids" varchar(65535)
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/fraud_score/_symlink_format_manifest/';
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
FROM "spectrum"."fraud_score_spectrum"
WITH NO SCHEMA BINDING;

-- night_burst: One row an alert: suspect purchases of one card in one night. Raised once a night, by the window that saw the second one.
CREATE EXTERNAL TABLE "spectrum"."night_burst_spectrum" (
  "window_start" timestamp,
  "window_end" timestamp,
  "card_token" varchar(65535),
  "rule" varchar(65535),
  "evidence" varchar(65535),
  "purchases" bigint,
  "merchants" bigint,
  "spend" decimal(30,2),
  "first_event_time" timestamp,
  "last_event_time" timestamp,
  "transaction_ids" varchar(65535)
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/night_burst/_symlink_format_manifest/';
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
FROM "spectrum"."night_burst_spectrum"
WITH NO SCHEMA BINDING;

-- rejects: What could not be decoded, broke a rule or contradicted an earlier row: kept with the reason, so that it can be mended and sent again.
CREATE EXTERNAL TABLE "spectrum"."rejects_spectrum" (
  "arrival_time" timestamp,
  "reason" varchar(65535),
  "field" varchar(65535),
  "detail" varchar(65535),
  "record" varbyte(1024000),
  "_source" varchar(65535),
  "_shard" varchar(65535),
  "_sequence" varchar(65535),
  "_sub_sequence" integer,
  "_epoch" bigint
)
PARTITIONED BY ("arrival_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/rejects/_symlink_format_manifest/';
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
FROM "spectrum"."rejects_spectrum"
WITH NO SCHEMA BINDING;

-- state_minute: Spend and fraud per state and minute. One row a closed window and group: final, appended once.
CREATE EXTERNAL TABLE "spectrum"."state_minute_spectrum" (
  "window_start" timestamp,
  "window_end" timestamp,
  "state" varchar(65535),
  "transactions" bigint,
  "amount" decimal(30,2),
  "fraud_transactions" bigint,
  "fraud_amount" decimal(30,2)
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/state_minute/_symlink_format_manifest/';
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
FROM "spectrum"."state_minute_spectrum"
WITH NO SCHEMA BINDING;

-- suspect_purchases: One row a purchase of a kind and an amount that stolen cards pay for. No alert yet: see night_burst and fraud_score.
CREATE EXTERNAL TABLE "spectrum"."suspect_purchases_spectrum" (
  "event_time" timestamp,
  "transaction_id" varchar(65535),
  "card_token" varchar(65535),
  "merchant" varchar(65535),
  "category" varchar(65535),
  "amount" decimal(20,2),
  "at_night" boolean
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/suspect_purchases/_symlink_format_manifest/';
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
FROM "spectrum"."suspect_purchases_spectrum"
WITH NO SCHEMA BINDING;

-- transactions: Every valid card transaction, once: the log from which everything else in the lake can be rebuilt.
CREATE EXTERNAL TABLE "spectrum"."transactions_spectrum" (
  "event_time" timestamp,
  "transaction_id" varchar(65535),
  "card_token" varchar(65535),
  "merchant" varchar(65535),
  "category" varchar(65535),
  "amount" decimal(20,2),
  "is_fraud" boolean,
  "city" varchar(65535),
  "state" varchar(65535),
  "zip" varchar(65535),
  "first_name" varchar(65535),
  "last_name" varchar(65535),
  "gender" varchar(65535),
  "street" varchar(65535),
  "latitude" double precision,
  "longitude" double precision,
  "city_population" integer,
  "occupation" varchar(65535),
  "date_of_birth" date,
  "unix_time" bigint,
  "merchant_latitude" double precision,
  "merchant_longitude" double precision,
  "_source" varchar(65535),
  "_shard" varchar(65535),
  "_sequence" varchar(65535),
  "_sub_sequence" integer,
  "_arrival_time" timestamp,
  "_epoch" bigint,
  "_late" boolean
)
PARTITIONED BY ("event_date" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/transactions/_symlink_format_manifest/';
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
FROM "spectrum"."transactions_spectrum"
WITH NO SCHEMA BINDING;

-- every_type: Every type there is, it's here so that quotes, "doubled" or not, and back\slashes, survive.
CREATE EXTERNAL TABLE "spectrum"."every_type_spectrum" (
  "at_time" timestamp,
  "a_text" varchar(65535),
  "a_flag" boolean,
  "a_short" smallint,
  "an_int" integer,
  "a_long" bigint,
  "a_float" real,
  "a_double" double precision,
  "some_money" decimal(20,2),
  "a_sum" decimal(38,4),
  "some_bytes" varbyte(1024000),
  "_epoch" bigint
)
PARTITIONED BY ("day" date)
ROW FORMAT SERDE 'org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe'
STORED AS INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 's3://bucket/lake/every_type/_symlink_format_manifest/';
ALTER TABLE "spectrum"."every_type_spectrum" ADD IF NOT EXISTS
PARTITION ("day"='2026-11-22') LOCATION 's3://bucket/lake/every_type/_symlink_format_manifest/day=2026-11-22/'
PARTITION ("day"='2026-11-23') LOCATION 's3://bucket/lake/every_type/_symlink_format_manifest/day=2026-11-23/';
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
FROM "spectrum"."every_type_spectrum"
WITH NO SCHEMA BINDING;

-- every_type: its export of closed dates as plain Parquet files
CREATE EXTERNAL TABLE "spectrum"."every_type_plain" (
  "at_time" timestamp,
  "a_text" varchar(65535),
  "a_flag" boolean,
  "a_short" smallint,
  "an_int" integer,
  "a_long" bigint,
  "a_float" real,
  "a_double" double precision,
  "some_money" decimal(20,2),
  "a_sum" decimal(38,4),
  "some_bytes" varbyte(1024000),
  "_epoch" bigint
)
PARTITIONED BY ("day" varchar(10))
STORED AS PARQUET
LOCATION 's3://bucket/lake_plain/every_type/';
ALTER TABLE "spectrum"."every_type_plain" ADD IF NOT EXISTS
PARTITION ("day"='2026-11-22') LOCATION 's3://bucket/lake_plain/every_type/day=2026-11-22/'
PARTITION ("day"='2026-11-23') LOCATION 's3://bucket/lake_plain/every_type/day=2026-11-23/';
