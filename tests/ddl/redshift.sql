-- Lakeward's tables in Redshift. Run it outside a transaction.

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

-- Tables of Redshift's own, in the same schema. COPY takes all columns of a Parquet file and no others, and the
-- partition column is not in the files: each date goes through a table of the file's columns. The files are those
-- live at the version named, a vacuum may take them away a week later, then render this script again. A table that is
-- there stays as it is: after a column was added to the lake, ALTER TABLE … ADD COLUMN it first.

-- amount_outlier: One row an alert: a purchase far above what its card pays in its category, by the history known when it was read.
CREATE TABLE IF NOT EXISTS "lake"."amount_outlier" (
  "event_time" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "transaction_id" varchar(65535) NOT NULL,
  "card_token" varchar(65535) NOT NULL,
  "rule" varchar(65535) NOT NULL,
  "evidence" varchar(65535) NOT NULL,
  "merchant" varchar(65535) NOT NULL,
  "category" varchar(65535) NOT NULL,
  "amount" decimal(20,2) NOT NULL,
  "history_purchases" bigint NOT NULL,
  "usual_amount" double precision NOT NULL,
  "usual_spread" double precision NOT NULL
)
DISTSTYLE KEY DISTKEY ("card_token")
COMPOUND SORTKEY ("event_date", "card_token", "event_time");
COMMENT ON TABLE "lake"."amount_outlier" IS 'One row an alert: a purchase far above what its card pays in its category, by the history known when it was read.';
COMMENT ON COLUMN "lake"."amount_outlier"."event_time" IS 'when the card was used';
COMMENT ON COLUMN "lake"."amount_outlier"."event_date" IS 'UTC date of event_time';
COMMENT ON COLUMN "lake"."amount_outlier"."transaction_id" IS 'the transaction that raised it';
COMMENT ON COLUMN "lake"."amount_outlier"."card_token" IS 'keyed token of the card number';
COMMENT ON COLUMN "lake"."amount_outlier"."rule" IS 'which rule fired: the name of this table';
COMMENT ON COLUMN "lake"."amount_outlier"."evidence" IS 'why, in words';
COMMENT ON COLUMN "lake"."amount_outlier"."merchant" IS 'name of the merchant';
COMMENT ON COLUMN "lake"."amount_outlier"."category" IS 'what was bought';
COMMENT ON COLUMN "lake"."amount_outlier"."amount" IS 'US dollars';
COMMENT ON COLUMN "lake"."amount_outlier"."history_purchases" IS 'purchases of this card in this category on the days known';
COMMENT ON COLUMN "lake"."amount_outlier"."usual_amount" IS 'their mean, US dollars';
COMMENT ON COLUMN "lake"."amount_outlier"."usual_spread" IS 'their standard deviation, US dollars';

-- nothing to load: the lake has no files of it yet

-- card_category_day: Spend per card, category and day. One row a closed window and group: final, appended once.
CREATE TABLE IF NOT EXISTS "lake"."card_category_day" (
  "window_start" timestamp NOT NULL,
  "window_end" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "card_token" varchar(65535) NOT NULL,
  "category" varchar(65535) NOT NULL,
  "purchases" bigint NOT NULL,
  "amount" decimal(30,2),
  "amount_squares" decimal(38,4)
)
DISTSTYLE KEY DISTKEY ("card_token")
COMPOUND SORTKEY ("event_date", "card_token", "category");
COMMENT ON TABLE "lake"."card_category_day" IS 'Spend per card, category and day. One row a closed window and group: final, appended once.';
COMMENT ON COLUMN "lake"."card_category_day"."window_start" IS 'first instant of the day, UTC';
COMMENT ON COLUMN "lake"."card_category_day"."window_end" IS 'first instant after the day, UTC';
COMMENT ON COLUMN "lake"."card_category_day"."event_date" IS 'UTC date of window_start';
COMMENT ON COLUMN "lake"."card_category_day"."card_token" IS 'keyed token of the card number';
COMMENT ON COLUMN "lake"."card_category_day"."category" IS 'what was bought';
COMMENT ON COLUMN "lake"."card_category_day"."purchases" IS 'how many';
COMMENT ON COLUMN "lake"."card_category_day"."amount" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."card_category_day"."amount_squares" IS 'the sum of their squares: with the two columns before it, a mean and a deviation';

-- nothing to load: the lake has no files of it yet

-- card_evidence: What speaks against a card, per half hour in which something does. No alert yet: see fraud_score.
CREATE TABLE IF NOT EXISTS "lake"."card_evidence" (
  "window_start" timestamp NOT NULL,
  "window_end" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "card_token" varchar(65535) NOT NULL,
  "purchases" bigint NOT NULL,
  "night_purchases" bigint NOT NULL,
  "outliers" bigint NOT NULL,
  "points" bigint NOT NULL,
  "amount" decimal(30,2),
  "first_purchase" timestamp NOT NULL,
  "last_purchase" timestamp NOT NULL,
  "transaction_ids" varchar(65535) NOT NULL
)
DISTSTYLE KEY DISTKEY ("card_token")
COMPOUND SORTKEY ("event_date", "card_token", "window_start");
COMMENT ON TABLE "lake"."card_evidence" IS 'What speaks against a card, per half hour in which something does. No alert yet: see fraud_score.';
COMMENT ON COLUMN "lake"."card_evidence"."window_start" IS 'first instant of the half hour, UTC';
COMMENT ON COLUMN "lake"."card_evidence"."window_end" IS 'first instant after it, UTC';
COMMENT ON COLUMN "lake"."card_evidence"."event_date" IS 'UTC date of window_start';
COMMENT ON COLUMN "lake"."card_evidence"."card_token" IS 'keyed token of the card number';
COMMENT ON COLUMN "lake"."card_evidence"."purchases" IS 'how many suspect purchases: one point each';
COMMENT ON COLUMN "lake"."card_evidence"."night_purchases" IS 'how many of them at night: two more points each';
COMMENT ON COLUMN "lake"."card_evidence"."outliers" IS 'how many of them far above the card''s own history: one more point each';
COMMENT ON COLUMN "lake"."card_evidence"."points" IS 'the points together';
COMMENT ON COLUMN "lake"."card_evidence"."amount" IS 'sum of the suspect purchases, US dollars';
COMMENT ON COLUMN "lake"."card_evidence"."first_purchase" IS 'the first of them';
COMMENT ON COLUMN "lake"."card_evidence"."last_purchase" IS 'the last of them';
COMMENT ON COLUMN "lake"."card_evidence"."transaction_ids" IS 'their transaction ids in order of time, separated by commas';

-- nothing to load: the lake has no files of it yet

-- card_velocity: One row an alert: a card that bought dear things too fast. Raised once a burst, by the window that saw the third purchase.
CREATE TABLE IF NOT EXISTS "lake"."card_velocity" (
  "window_start" timestamp NOT NULL,
  "window_end" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "card_token" varchar(65535) NOT NULL,
  "rule" varchar(65535) NOT NULL,
  "evidence" varchar(65535) NOT NULL,
  "purchases" bigint NOT NULL,
  "merchants" bigint NOT NULL,
  "spend" decimal(30,2) NOT NULL,
  "first_event_time" timestamp NOT NULL,
  "last_event_time" timestamp NOT NULL,
  "transaction_ids" varchar(65535) NOT NULL
)
DISTSTYLE KEY DISTKEY ("card_token")
COMPOUND SORTKEY ("event_date", "card_token", "window_start");
COMMENT ON TABLE "lake"."card_velocity" IS 'One row an alert: a card that bought dear things too fast. Raised once a burst, by the window that saw the third purchase.';
COMMENT ON COLUMN "lake"."card_velocity"."window_start" IS 'first instant of the six hours looked at, UTC';
COMMENT ON COLUMN "lake"."card_velocity"."window_end" IS 'first instant after them, UTC: when the alert is due';
COMMENT ON COLUMN "lake"."card_velocity"."event_date" IS 'UTC date of the newest half hour of the window';
COMMENT ON COLUMN "lake"."card_velocity"."card_token" IS 'keyed token of the card number';
COMMENT ON COLUMN "lake"."card_velocity"."rule" IS 'which rule fired: the name of this table';
COMMENT ON COLUMN "lake"."card_velocity"."evidence" IS 'why, in words';
COMMENT ON COLUMN "lake"."card_velocity"."purchases" IS 'how many of $200 and more in the window';
COMMENT ON COLUMN "lake"."card_velocity"."merchants" IS 'how many different merchants they were made at';
COMMENT ON COLUMN "lake"."card_velocity"."spend" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."card_velocity"."first_event_time" IS 'the first of them';
COMMENT ON COLUMN "lake"."card_velocity"."last_event_time" IS 'the last of them';
COMMENT ON COLUMN "lake"."card_velocity"."transaction_ids" IS 'their transaction ids in order of time, separated by commas';

-- nothing to load: the lake has no files of it yet

-- category_hour: Spend and fraud per category and hour. One row a closed window and group: final, appended once.
CREATE TABLE IF NOT EXISTS "lake"."category_hour" (
  "window_start" timestamp NOT NULL,
  "window_end" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "category" varchar(65535) NOT NULL,
  "transactions" bigint NOT NULL,
  "amount" decimal(30,2),
  "fraud_transactions" bigint NOT NULL,
  "fraud_amount" decimal(30,2)
)
DISTSTYLE KEY DISTKEY ("category")
COMPOUND SORTKEY ("event_date", "category", "window_start");
COMMENT ON TABLE "lake"."category_hour" IS 'Spend and fraud per category and hour. One row a closed window and group: final, appended once.';
COMMENT ON COLUMN "lake"."category_hour"."window_start" IS 'first instant of the hour, UTC';
COMMENT ON COLUMN "lake"."category_hour"."window_end" IS 'first instant after the hour, UTC';
COMMENT ON COLUMN "lake"."category_hour"."event_date" IS 'UTC date of window_start';
COMMENT ON COLUMN "lake"."category_hour"."category" IS 'what was bought';
COMMENT ON COLUMN "lake"."category_hour"."transactions" IS 'how many';
COMMENT ON COLUMN "lake"."category_hour"."amount" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."category_hour"."fraud_transactions" IS 'how many of them were fraud';
COMMENT ON COLUMN "lake"."category_hour"."fraud_amount" IS 'the sum of those, US dollars; 0 when there were none';

-- nothing to load: the lake has no files of it yet

-- city_minute: Spend and fraud per city and minute. One row a closed window and group: final, appended once.
CREATE TABLE IF NOT EXISTS "lake"."city_minute" (
  "window_start" timestamp NOT NULL,
  "window_end" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "state" varchar(65535) NOT NULL,
  "city" varchar(65535) NOT NULL,
  "transactions" bigint NOT NULL,
  "amount" decimal(30,2),
  "fraud_transactions" bigint NOT NULL,
  "fraud_amount" decimal(30,2)
)
DISTSTYLE KEY DISTKEY ("state")
COMPOUND SORTKEY ("event_date", "state", "city", "window_start");
COMMENT ON TABLE "lake"."city_minute" IS 'Spend and fraud per city and minute. One row a closed window and group: final, appended once.';
COMMENT ON COLUMN "lake"."city_minute"."window_start" IS 'first instant of the minute, UTC';
COMMENT ON COLUMN "lake"."city_minute"."window_end" IS 'first instant after the minute, UTC';
COMMENT ON COLUMN "lake"."city_minute"."event_date" IS 'UTC date of window_start';
COMMENT ON COLUMN "lake"."city_minute"."state" IS 'the card holder''s, two letters';
COMMENT ON COLUMN "lake"."city_minute"."city" IS 'the card holder''s; key on state and city';
COMMENT ON COLUMN "lake"."city_minute"."transactions" IS 'how many';
COMMENT ON COLUMN "lake"."city_minute"."amount" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."city_minute"."fraud_transactions" IS 'how many of them were fraud';
COMMENT ON COLUMN "lake"."city_minute"."fraud_amount" IS 'the sum of those, US dollars; 0 when there were none';

-- nothing to load: the lake has no files of it yet

-- epochs: The books: one row per epoch and shard, and for each read = written + duplicates + rejected.
CREATE TABLE IF NOT EXISTS "lake"."epochs" (
  "commit_time" timestamp NOT NULL,
  "commit_date" date NOT NULL,
  "epoch" bigint NOT NULL,
  "generation" bigint NOT NULL,
  "kind" varchar(65535) NOT NULL,
  "source" varchar(65535) NOT NULL,
  "shard" varchar(65535) NOT NULL,
  "position_from" varchar(65535) NOT NULL,
  "position_to" varchar(65535) NOT NULL,
  "finished" boolean NOT NULL,
  "read" bigint NOT NULL,
  "written" bigint NOT NULL,
  "duplicates" bigint NOT NULL,
  "rejected" bigint NOT NULL,
  "late" bigint NOT NULL,
  "first_duplicate" varchar(65535),
  "shard_watermark" timestamp,
  "watermark" timestamp,
  "lag_ms" bigint
)
DISTSTYLE KEY DISTKEY ("source")
COMPOUND SORTKEY ("commit_date", "epoch", "source", "shard");
COMMENT ON TABLE "lake"."epochs" IS 'The books: one row per epoch and shard, and for each read = written + duplicates + rejected.';
COMMENT ON COLUMN "lake"."epochs"."commit_time" IS 'when the epoch was staged';
COMMENT ON COLUMN "lake"."epochs"."commit_date" IS 'UTC date of commit_time';
COMMENT ON COLUMN "lake"."epochs"."epoch" IS 'number of the epoch, from 0';
COMMENT ON COLUMN "lake"."epochs"."generation" IS 'generation of the writer that decided it';
COMMENT ON COLUMN "lake"."epochs"."kind" IS 'epoch, gap or new_stream';
COMMENT ON COLUMN "lake"."epochs"."source" IS 'the stream or the files';
COMMENT ON COLUMN "lake"."epochs"."shard" IS 'the shard, or the file';
COMMENT ON COLUMN "lake"."epochs"."position_from" IS 'exclusive: a sequence number, trim_horizon or a time';
COMMENT ON COLUMN "lake"."epochs"."position_to" IS 'inclusive; equal to position_from when nothing was read';
COMMENT ON COLUMN "lake"."epochs"."finished" IS 'the end of the shard has been read';
COMMENT ON COLUMN "lake"."epochs"."read" IS 'records read';
COMMENT ON COLUMN "lake"."epochs"."written" IS 'rows written to the stream''s table';
COMMENT ON COLUMN "lake"."epochs"."duplicates" IS 'records whose identity was known, with the same content';
COMMENT ON COLUMN "lake"."epochs"."rejected" IS 'records written to rejects';
COMMENT ON COLUMN "lake"."epochs"."late" IS 'of written: rows that at least one closed window refused';
COMMENT ON COLUMN "lake"."epochs"."first_duplicate" IS 'position of the first duplicate of this epoch';
COMMENT ON COLUMN "lake"."epochs"."shard_watermark" IS 'the shard''s greatest event time less the allowed disorder; null before its first row';
COMMENT ON COLUMN "lake"."epochs"."watermark" IS 'the stream''s watermark when the epoch was staged; null before the first row';
COMMENT ON COLUMN "lake"."epochs"."lag_ms" IS 'commit_time less the shard''s greatest event time, milliseconds; null before its first row';

-- nothing to load: the lake has no files of it yet

-- fraud_alerts: One row an alert: which rule fired, on which transaction.
CREATE TABLE IF NOT EXISTS "lake"."fraud_alerts" (
  "event_time" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "transaction_id" varchar(65535) NOT NULL,
  "card_token" varchar(65535) NOT NULL,
  "merchant" varchar(65535) NOT NULL,
  "category" varchar(65535) NOT NULL,
  "amount" decimal(20,2) NOT NULL,
  "city" varchar(65535) NOT NULL,
  "state" varchar(65535) NOT NULL,
  "rule" varchar(65535) NOT NULL
)
DISTSTYLE AUTO
COMPOUND SORTKEY ("event_date", "event_time");
COMMENT ON TABLE "lake"."fraud_alerts" IS 'One row an alert: which rule fired, on which transaction.';
COMMENT ON COLUMN "lake"."fraud_alerts"."event_time" IS 'when the card was used';
COMMENT ON COLUMN "lake"."fraud_alerts"."event_date" IS 'UTC date of event_time';
COMMENT ON COLUMN "lake"."fraud_alerts"."transaction_id" IS 'the transaction that raised it';
COMMENT ON COLUMN "lake"."fraud_alerts"."card_token" IS 'keyed token of the card number';
COMMENT ON COLUMN "lake"."fraud_alerts"."merchant" IS 'name of the merchant';
COMMENT ON COLUMN "lake"."fraud_alerts"."category" IS 'what was bought';
COMMENT ON COLUMN "lake"."fraud_alerts"."amount" IS 'US dollars';
COMMENT ON COLUMN "lake"."fraud_alerts"."city" IS 'the card holder''s';
COMMENT ON COLUMN "lake"."fraud_alerts"."state" IS 'the card holder''s, two letters';
COMMENT ON COLUMN "lake"."fraud_alerts"."rule" IS 'which rule fired';

-- nothing to load: the lake has no files of it yet

-- fraud_score: One row an alert: a card whose points reached seven. Raised once a burst, by the window in which they did.
CREATE TABLE IF NOT EXISTS "lake"."fraud_score" (
  "window_start" timestamp NOT NULL,
  "window_end" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "card_token" varchar(65535) NOT NULL,
  "rule" varchar(65535) NOT NULL,
  "evidence" varchar(65535) NOT NULL,
  "score" bigint NOT NULL,
  "purchases" bigint NOT NULL,
  "night_purchases" bigint NOT NULL,
  "outliers" bigint NOT NULL,
  "spend" decimal(30,2) NOT NULL,
  "first_event_time" timestamp NOT NULL,
  "last_event_time" timestamp NOT NULL,
  "transaction_ids" varchar(65535) NOT NULL
)
DISTSTYLE KEY DISTKEY ("card_token")
COMPOUND SORTKEY ("event_date", "card_token", "window_start");
COMMENT ON TABLE "lake"."fraud_score" IS 'One row an alert: a card whose points reached seven. Raised once a burst, by the window in which they did.';
COMMENT ON COLUMN "lake"."fraud_score"."window_start" IS 'first instant of the 30 hours looked at, UTC';
COMMENT ON COLUMN "lake"."fraud_score"."window_end" IS 'first instant after them, UTC: when the alert is due';
COMMENT ON COLUMN "lake"."fraud_score"."event_date" IS 'UTC date of the newest half hour of the window';
COMMENT ON COLUMN "lake"."fraud_score"."card_token" IS 'keyed token of the card number';
COMMENT ON COLUMN "lake"."fraud_score"."rule" IS 'which rule fired: the name of this table';
COMMENT ON COLUMN "lake"."fraud_score"."evidence" IS 'why, in words';
COMMENT ON COLUMN "lake"."fraud_score"."score" IS 'the points of card_evidence in the window';
COMMENT ON COLUMN "lake"."fraud_score"."purchases" IS 'suspect purchases it rests on';
COMMENT ON COLUMN "lake"."fraud_score"."night_purchases" IS 'how many of them at night';
COMMENT ON COLUMN "lake"."fraud_score"."outliers" IS 'how many of them far above the card''s own history';
COMMENT ON COLUMN "lake"."fraud_score"."spend" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."fraud_score"."first_event_time" IS 'the first of them';
COMMENT ON COLUMN "lake"."fraud_score"."last_event_time" IS 'the last of them';
COMMENT ON COLUMN "lake"."fraud_score"."transaction_ids" IS 'their transaction ids in order of time, separated by commas';

-- nothing to load: the lake has no files of it yet

-- night_burst: One row an alert: suspect purchases of one card in one night. Raised once a night, by the window that saw the second one.
CREATE TABLE IF NOT EXISTS "lake"."night_burst" (
  "window_start" timestamp NOT NULL,
  "window_end" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "card_token" varchar(65535) NOT NULL,
  "rule" varchar(65535) NOT NULL,
  "evidence" varchar(65535) NOT NULL,
  "purchases" bigint NOT NULL,
  "merchants" bigint NOT NULL,
  "spend" decimal(30,2) NOT NULL,
  "first_event_time" timestamp NOT NULL,
  "last_event_time" timestamp NOT NULL,
  "transaction_ids" varchar(65535) NOT NULL
)
DISTSTYLE KEY DISTKEY ("card_token")
COMPOUND SORTKEY ("event_date", "card_token", "window_start");
COMMENT ON TABLE "lake"."night_burst" IS 'One row an alert: suspect purchases of one card in one night. Raised once a night, by the window that saw the second one.';
COMMENT ON COLUMN "lake"."night_burst"."window_start" IS 'first instant of the six hours looked at, UTC';
COMMENT ON COLUMN "lake"."night_burst"."window_end" IS 'first instant after them, UTC: when the alert is due';
COMMENT ON COLUMN "lake"."night_burst"."event_date" IS 'UTC date of the newest ten minutes of the window';
COMMENT ON COLUMN "lake"."night_burst"."card_token" IS 'keyed token of the card number';
COMMENT ON COLUMN "lake"."night_burst"."rule" IS 'which rule fired: the name of this table';
COMMENT ON COLUMN "lake"."night_burst"."evidence" IS 'why, in words';
COMMENT ON COLUMN "lake"."night_burst"."purchases" IS 'how many suspect ones in the window';
COMMENT ON COLUMN "lake"."night_burst"."merchants" IS 'how many different merchants they were made at';
COMMENT ON COLUMN "lake"."night_burst"."spend" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."night_burst"."first_event_time" IS 'the first of them';
COMMENT ON COLUMN "lake"."night_burst"."last_event_time" IS 'the last of them';
COMMENT ON COLUMN "lake"."night_burst"."transaction_ids" IS 'their transaction ids in order of time, separated by commas';

-- nothing to load: the lake has no files of it yet

-- rejects: What could not be decoded, broke a rule or contradicted an earlier row: kept with the reason, so that it can be mended and sent again.
CREATE TABLE IF NOT EXISTS "lake"."rejects" (
  "arrival_time" timestamp NOT NULL,
  "arrival_date" date NOT NULL,
  "reason" varchar(65535) NOT NULL,
  "field" varchar(65535),
  "detail" varchar(65535),
  "record" varbyte(1024000),
  "_source" varchar(65535) NOT NULL,
  "_shard" varchar(65535) NOT NULL,
  "_sequence" varchar(65535) NOT NULL,
  "_sub_sequence" integer NOT NULL,
  "_epoch" bigint NOT NULL
)
DISTSTYLE AUTO
COMPOUND SORTKEY ("arrival_date", "arrival_time");
COMMENT ON TABLE "lake"."rejects" IS 'What could not be decoded, broke a rule or contradicted an earlier row: kept with the reason, so that it can be mended and sent again.';
COMMENT ON COLUMN "lake"."rejects"."arrival_time" IS 'when the stream took the record in';
COMMENT ON COLUMN "lake"."rejects"."arrival_date" IS 'UTC date of arrival_time';
COMMENT ON COLUMN "lake"."rejects"."reason" IS 'why, as a word to group by, like malformed_json, check_failed or conflicting_duplicate';
COMMENT ON COLUMN "lake"."rejects"."field" IS 'the input field or the column at fault, when it is one';
COMMENT ON COLUMN "lake"."rejects"."detail" IS 'what was wrong, in a sentence; never a value of a tokenised field';
COMMENT ON COLUMN "lake"."rejects"."record" IS 'the record as it arrived, card numbers replaced by their tokens; null when it must not be kept or is not at hand';
COMMENT ON COLUMN "lake"."rejects"."_source" IS 'the stream or the files it came from';
COMMENT ON COLUMN "lake"."rejects"."_shard" IS 'the shard, or the file';
COMMENT ON COLUMN "lake"."rejects"."_sequence" IS 'sequence number in the shard, or offset in the file padded to 20 digits';
COMMENT ON COLUMN "lake"."rejects"."_sub_sequence" IS 'place among the rows of one record, from 0';
COMMENT ON COLUMN "lake"."rejects"."_epoch" IS 'the epoch that committed the row';

-- nothing to load: the lake has no files of it yet

-- state_minute: Spend and fraud per state and minute. One row a closed window and group: final, appended once.
CREATE TABLE IF NOT EXISTS "lake"."state_minute" (
  "window_start" timestamp NOT NULL,
  "window_end" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "state" varchar(65535) NOT NULL,
  "transactions" bigint NOT NULL,
  "amount" decimal(30,2),
  "fraud_transactions" bigint NOT NULL,
  "fraud_amount" decimal(30,2)
)
DISTSTYLE KEY DISTKEY ("state")
COMPOUND SORTKEY ("event_date", "state", "window_start");
COMMENT ON TABLE "lake"."state_minute" IS 'Spend and fraud per state and minute. One row a closed window and group: final, appended once.';
COMMENT ON COLUMN "lake"."state_minute"."window_start" IS 'first instant of the minute, UTC';
COMMENT ON COLUMN "lake"."state_minute"."window_end" IS 'first instant after the minute, UTC';
COMMENT ON COLUMN "lake"."state_minute"."event_date" IS 'UTC date of window_start';
COMMENT ON COLUMN "lake"."state_minute"."state" IS 'the card holder''s, two letters';
COMMENT ON COLUMN "lake"."state_minute"."transactions" IS 'how many';
COMMENT ON COLUMN "lake"."state_minute"."amount" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."state_minute"."fraud_transactions" IS 'how many of them were fraud';
COMMENT ON COLUMN "lake"."state_minute"."fraud_amount" IS 'the sum of those, US dollars; 0 when there were none';

-- nothing to load: the lake has no files of it yet

-- suspect_purchases: One row a purchase of a kind and an amount that stolen cards pay for. No alert yet: see night_burst and fraud_score.
CREATE TABLE IF NOT EXISTS "lake"."suspect_purchases" (
  "event_time" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "transaction_id" varchar(65535) NOT NULL,
  "card_token" varchar(65535) NOT NULL,
  "merchant" varchar(65535) NOT NULL,
  "category" varchar(65535) NOT NULL,
  "amount" decimal(20,2) NOT NULL,
  "at_night" boolean NOT NULL
)
DISTSTYLE KEY DISTKEY ("card_token")
COMPOUND SORTKEY ("event_date", "card_token", "event_time");
COMMENT ON TABLE "lake"."suspect_purchases" IS 'One row a purchase of a kind and an amount that stolen cards pay for. No alert yet: see night_burst and fraud_score.';
COMMENT ON COLUMN "lake"."suspect_purchases"."event_time" IS 'when the card was used';
COMMENT ON COLUMN "lake"."suspect_purchases"."event_date" IS 'UTC date of event_time';
COMMENT ON COLUMN "lake"."suspect_purchases"."transaction_id" IS 'the transaction';
COMMENT ON COLUMN "lake"."suspect_purchases"."card_token" IS 'keyed token of the card number';
COMMENT ON COLUMN "lake"."suspect_purchases"."merchant" IS 'name of the merchant';
COMMENT ON COLUMN "lake"."suspect_purchases"."category" IS 'what was bought';
COMMENT ON COLUMN "lake"."suspect_purchases"."amount" IS 'US dollars';
COMMENT ON COLUMN "lake"."suspect_purchases"."at_night" IS 'from 22:00 to 04:00, by the clock of event_time';

-- nothing to load: the lake has no files of it yet

-- transactions: Every valid card transaction, once: the log from which everything else in the lake can be rebuilt.
CREATE TABLE IF NOT EXISTS "lake"."transactions" (
  "event_time" timestamp NOT NULL,
  "event_date" date NOT NULL,
  "transaction_id" varchar(65535) NOT NULL,
  "card_token" varchar(65535) NOT NULL,
  "merchant" varchar(65535) NOT NULL,
  "category" varchar(65535) NOT NULL,
  "amount" decimal(20,2) NOT NULL,
  "is_fraud" boolean NOT NULL,
  "city" varchar(65535) NOT NULL,
  "state" varchar(65535) NOT NULL,
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
  "_source" varchar(65535) NOT NULL,
  "_shard" varchar(65535) NOT NULL,
  "_sequence" varchar(65535) NOT NULL,
  "_sub_sequence" integer NOT NULL,
  "_arrival_time" timestamp NOT NULL,
  "_epoch" bigint NOT NULL,
  "_late" boolean NOT NULL
)
DISTSTYLE KEY DISTKEY ("card_token")
COMPOUND SORTKEY ("event_date", "event_time");
COMMENT ON TABLE "lake"."transactions" IS 'Every valid card transaction, once: the log from which everything else in the lake can be rebuilt.';
COMMENT ON COLUMN "lake"."transactions"."event_time" IS 'when the card was used';
COMMENT ON COLUMN "lake"."transactions"."event_date" IS 'UTC date of event_time';
COMMENT ON COLUMN "lake"."transactions"."transaction_id" IS 'the transaction''s own id: two rows of one id are one row';
COMMENT ON COLUMN "lake"."transactions"."card_token" IS 'keyed token of the card number; equal for equal cards under one key version';
COMMENT ON COLUMN "lake"."transactions"."merchant" IS 'name of the merchant; a name may occur in two categories';
COMMENT ON COLUMN "lake"."transactions"."category" IS 'what was bought; _net is on line, _pos in a shop';
COMMENT ON COLUMN "lake"."transactions"."amount" IS 'US dollars';
COMMENT ON COLUMN "lake"."transactions"."is_fraud" IS 'the label of the data set';
COMMENT ON COLUMN "lake"."transactions"."city" IS 'the card holder''s; some names occur in several states';
COMMENT ON COLUMN "lake"."transactions"."state" IS 'the card holder''s, two letters';
COMMENT ON COLUMN "lake"."transactions"."zip" IS 'the card holder''s, five digits';
COMMENT ON COLUMN "lake"."transactions"."first_name" IS 'the card holder''s';
COMMENT ON COLUMN "lake"."transactions"."last_name" IS 'the card holder''s';
COMMENT ON COLUMN "lake"."transactions"."gender" IS 'the card holder''s, F or M';
COMMENT ON COLUMN "lake"."transactions"."street" IS 'the card holder''s';
COMMENT ON COLUMN "lake"."transactions"."latitude" IS 'degrees, of the card holder''s place';
COMMENT ON COLUMN "lake"."transactions"."longitude" IS 'degrees, of the card holder''s place';
COMMENT ON COLUMN "lake"."transactions"."city_population" IS 'inhabitants of the card holder''s place';
COMMENT ON COLUMN "lake"."transactions"."occupation" IS 'the card holder''s';
COMMENT ON COLUMN "lake"."transactions"."date_of_birth" IS 'the card holder''s';
COMMENT ON COLUMN "lake"."transactions"."unix_time" IS 'seconds, as the producer gave them; not the unix time of event_time (about seven years earlier)';
COMMENT ON COLUMN "lake"."transactions"."merchant_latitude" IS 'degrees, where the card was used';
COMMENT ON COLUMN "lake"."transactions"."merchant_longitude" IS 'degrees, where the card was used';
COMMENT ON COLUMN "lake"."transactions"."_source" IS 'the stream or the files it came from';
COMMENT ON COLUMN "lake"."transactions"."_shard" IS 'the shard, or the file';
COMMENT ON COLUMN "lake"."transactions"."_sequence" IS 'sequence number in the shard, or offset in the file padded to 20 digits';
COMMENT ON COLUMN "lake"."transactions"."_sub_sequence" IS 'place among the rows of one record, from 0';
COMMENT ON COLUMN "lake"."transactions"."_arrival_time" IS 'when the stream took the record in';
COMMENT ON COLUMN "lake"."transactions"."_epoch" IS 'the epoch that committed the row';
COMMENT ON COLUMN "lake"."transactions"."_late" IS 'a window it belongs to had been closed before';

-- nothing to load: the lake has no files of it yet

-- every_type: Every type there is, it's here so that quotes, "doubled" or not, and back\slashes, survive.
CREATE TABLE IF NOT EXISTS "lake"."every_type" (
  "at_time" timestamp NOT NULL,
  "day" date NOT NULL,
  "a_text" varchar(65535) NOT NULL,
  "a_flag" boolean,
  "a_short" smallint,
  "an_int" integer,
  "a_long" bigint,
  "a_float" real,
  "a_double" double precision,
  "some_money" decimal(20,2),
  "a_sum" decimal(38,4),
  "some_bytes" varbyte(1024000),
  "_epoch" bigint NOT NULL
)
DISTSTYLE KEY DISTKEY ("a_text")
COMPOUND SORTKEY ("day", "a_text", "at_time");
COMMENT ON TABLE "lake"."every_type" IS 'Every type there is; it''s here so that quotes, "doubled" or not, and back\\slashes; survive.';
COMMENT ON COLUMN "lake"."every_type"."at_time" IS 'a time; not the end of a statement';
COMMENT ON COLUMN "lake"."every_type"."day" IS 'the card holder''s day';
COMMENT ON COLUMN "lake"."every_type"."a_text" IS 'with a \\ and a "quote"';
COMMENT ON COLUMN "lake"."every_type"."a_flag" IS 'it''s ''quoted'' -- and no comment';
COMMENT ON COLUMN "lake"."every_type"."a_short" IS '`ticked`';
COMMENT ON COLUMN "lake"."every_type"."an_int" IS '50 % of $1, {2}';
COMMENT ON COLUMN "lake"."every_type"."a_long" IS 'größer';
COMMENT ON COLUMN "lake"."every_type"."a_float" IS '\\';
COMMENT ON COLUMN "lake"."every_type"."a_double" IS 'a much longer comment than any catalog of Amazon takes for a column, which has to be cut somewhere near its two hundred and fifty-fifth character, so that the table can be made at all, and this one goes on and on and on until it has surely reached that length, whatever it is worth';
COMMENT ON COLUMN "lake"."every_type"."some_bytes" IS 'raw';
COMMENT ON COLUMN "lake"."every_type"."_epoch" IS 'the epoch that committed the row';

-- every_type: the files of version 7
CREATE TEMP TABLE "every_type_load" (
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
);
BEGIN;
DELETE FROM "lake"."every_type" WHERE "day" = DATE '2026-11-22';
DELETE FROM "every_type_load";
COPY "every_type_load" FROM 's3://bucket/lake/every_type/day=2026-11-22/part-00000000000000000001-00000000-0000-4000-8000-000000000001.snappy.parquet' IAM_ROLE 'arn:aws:iam::123456789012:role/lake' FORMAT AS PARQUET FILLRECORD;
COPY "every_type_load" FROM 's3://bucket/lake/every_type/day=2026-11-22/part-00000000000000000002-00000000-0000-4000-8000-000000000002.snappy.parquet' IAM_ROLE 'arn:aws:iam::123456789012:role/lake' FORMAT AS PARQUET FILLRECORD;
INSERT INTO "lake"."every_type" ("at_time", "a_text", "a_flag", "a_short", "an_int", "a_long", "a_float", "a_double", "some_money", "a_sum", "some_bytes", "_epoch", "day")
SELECT "at_time", "a_text", "a_flag", "a_short", "an_int", "a_long", "a_float", "a_double", "some_money", "a_sum", "some_bytes", "_epoch", DATE '2026-11-22' FROM "every_type_load";
COMMIT;
BEGIN;
DELETE FROM "lake"."every_type" WHERE "day" = DATE '2026-11-23';
DELETE FROM "every_type_load";
COPY "every_type_load" FROM 's3://bucket/lake/every_type/day=2026-11-23/part-00000000000000000001-00000000-0000-4000-8000-000000000001.snappy.parquet' IAM_ROLE 'arn:aws:iam::123456789012:role/lake' FORMAT AS PARQUET FILLRECORD;
COPY "every_type_load" FROM 's3://bucket/lake/every_type/day=2026-11-23/part-00000000000000000002-00000000-0000-4000-8000-000000000002.snappy.parquet' IAM_ROLE 'arn:aws:iam::123456789012:role/lake' FORMAT AS PARQUET FILLRECORD;
INSERT INTO "lake"."every_type" ("at_time", "a_text", "a_flag", "a_short", "an_int", "a_long", "a_float", "a_double", "some_money", "a_sum", "some_bytes", "_epoch", "day")
SELECT "at_time", "a_text", "a_flag", "a_short", "an_int", "a_long", "a_float", "a_double", "some_money", "a_sum", "some_bytes", "_epoch", DATE '2026-11-23' FROM "every_type_load";
COMMIT;
DROP TABLE "every_type_load";
ANALYZE "lake"."every_type";
