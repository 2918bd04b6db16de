-- Lakeward's tables in Spark 3.5 or 4 with Delta Lake:
-- --conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension
-- --conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog
-- Outside EMR and Glue, S3 is read by the scheme s3a: `--location s3a://BUCKET/lake`.
-- A Delta timestamp is a moment, the session's zone decides how it is shown and cut into days.
SET spark.sql.session.timeZone = UTC;
CREATE DATABASE IF NOT EXISTS `lake`;

-- amount_outlier: One row an alert: a purchase far above what its card pays in its category, by the history known when it was read.
CREATE TABLE IF NOT EXISTS `lake`.`amount_outlier` USING DELTA LOCATION 's3://bucket/lake/amount_outlier';

-- card_category_day: Spend per card, category and day. One row a closed window and group: final, appended once.
CREATE TABLE IF NOT EXISTS `lake`.`card_category_day` USING DELTA LOCATION 's3://bucket/lake/card_category_day';

-- card_evidence: What speaks against a card, per half hour in which something does. No alert yet: see fraud_score.
CREATE TABLE IF NOT EXISTS `lake`.`card_evidence` USING DELTA LOCATION 's3://bucket/lake/card_evidence';

-- card_velocity: One row an alert: a card that bought dear things too fast. Raised once a burst, by the window that saw the third purchase.
CREATE TABLE IF NOT EXISTS `lake`.`card_velocity` USING DELTA LOCATION 's3://bucket/lake/card_velocity';

-- category_hour: Spend and fraud per category and hour. One row a closed window and group: final, appended once.
CREATE TABLE IF NOT EXISTS `lake`.`category_hour` USING DELTA LOCATION 's3://bucket/lake/category_hour';

-- city_minute: Spend and fraud per city and minute. One row a closed window and group: final, appended once.
CREATE TABLE IF NOT EXISTS `lake`.`city_minute` USING DELTA LOCATION 's3://bucket/lake/city_minute';

-- epochs: The books: one row per epoch and shard, and for each read = written + duplicates + rejected.
CREATE TABLE IF NOT EXISTS `lake`.`epochs` USING DELTA LOCATION 's3://bucket/lake/epochs';

-- fraud_alerts: One row an alert: which rule fired, on which transaction.
CREATE TABLE IF NOT EXISTS `lake`.`fraud_alerts` USING DELTA LOCATION 's3://bucket/lake/fraud_alerts';

-- fraud_score: One row an alert: a card whose points reached seven. Raised once a burst, by the window in which they did.
CREATE TABLE IF NOT EXISTS `lake`.`fraud_score` USING DELTA LOCATION 's3://bucket/lake/fraud_score';

-- night_burst: One row an alert: suspect purchases of one card in one night. Raised once a night, by the window that saw the second one.
CREATE TABLE IF NOT EXISTS `lake`.`night_burst` USING DELTA LOCATION 's3://bucket/lake/night_burst';

-- rejects: What could not be decoded, broke a rule or contradicted an earlier row: kept with the reason, so that it can be mended and sent again.
CREATE TABLE IF NOT EXISTS `lake`.`rejects` USING DELTA LOCATION 's3://bucket/lake/rejects';

-- state_minute: Spend and fraud per state and minute. One row a closed window and group: final, appended once.
CREATE TABLE IF NOT EXISTS `lake`.`state_minute` USING DELTA LOCATION 's3://bucket/lake/state_minute';

-- suspect_purchases: One row a purchase of a kind and an amount that stolen cards pay for. No alert yet: see night_burst and fraud_score.
CREATE TABLE IF NOT EXISTS `lake`.`suspect_purchases` USING DELTA LOCATION 's3://bucket/lake/suspect_purchases';

-- transactions: Every valid card transaction, once: the log from which everything else in the lake can be rebuilt.
CREATE TABLE IF NOT EXISTS `lake`.`transactions` USING DELTA LOCATION 's3://bucket/lake/transactions';

-- every_type: Every type there is, it's here so that quotes, "doubled" or not, and back\slashes, survive.
CREATE TABLE IF NOT EXISTS `lake`.`every_type` USING DELTA LOCATION 's3://bucket/lake/every_type';
