-- Lakeward's tables as views of DuckDB, for `duckdb -init <this file>`. Every query reads the newest version of its tables.
-- Times are TIMESTAMP WITH TIME ZONE, SET TimeZone decides how they are shown and cut into days.
INSTALL delta;
LOAD delta;

-- Credentials as the AWS command line finds them, which are not kept.
INSTALL httpfs;
LOAD httpfs;
INSTALL aws;
LOAD aws;
CREATE OR REPLACE SECRET lakeward (TYPE s3, PROVIDER credential_chain, REGION 'eu-west-1', ENDPOINT 's3.example.org:9000', URL_STYLE 'path', USE_SSL true);
SET TimeZone = 'UTC';
CREATE SCHEMA IF NOT EXISTS "lake";

-- amount_outlier: One row an alert: a purchase far above what its card pays in its category, by the history known when it was read.
CREATE OR REPLACE VIEW "lake"."amount_outlier" AS
SELECT
  "event_time",
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
FROM delta_scan('s3://bucket/lake/amount_outlier');
COMMENT ON VIEW "lake"."amount_outlier" IS 'One row an alert: a purchase far above what its card pays in its category, by the history known when it was read.';
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

-- card_category_day: Spend per card, category and day. One row a closed window and group: final, appended once.
CREATE OR REPLACE VIEW "lake"."card_category_day" AS
SELECT
  "window_start",
  "window_end",
  "event_date",
  "card_token",
  "category",
  "purchases",
  "amount",
  "amount_squares"
FROM delta_scan('s3://bucket/lake/card_category_day');
COMMENT ON VIEW "lake"."card_category_day" IS 'Spend per card, category and day. One row a closed window and group: final, appended once.';
COMMENT ON COLUMN "lake"."card_category_day"."window_start" IS 'first instant of the day, UTC';
COMMENT ON COLUMN "lake"."card_category_day"."window_end" IS 'first instant after the day, UTC';
COMMENT ON COLUMN "lake"."card_category_day"."event_date" IS 'UTC date of window_start';
COMMENT ON COLUMN "lake"."card_category_day"."card_token" IS 'keyed token of the card number';
COMMENT ON COLUMN "lake"."card_category_day"."category" IS 'what was bought';
COMMENT ON COLUMN "lake"."card_category_day"."purchases" IS 'how many';
COMMENT ON COLUMN "lake"."card_category_day"."amount" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."card_category_day"."amount_squares" IS 'the sum of their squares: with the two columns before it, a mean and a deviation';

-- card_evidence: What speaks against a card, per half hour in which something does. No alert yet: see fraud_score.
CREATE OR REPLACE VIEW "lake"."card_evidence" AS
SELECT
  "window_start",
  "window_end",
  "event_date",
  "card_token",
  "purchases",
  "night_purchases",
  "outliers",
  "points",
  "amount",
  "first_purchase",
  "last_purchase",
  "transaction_ids"
FROM delta_scan('s3://bucket/lake/card_evidence');
COMMENT ON VIEW "lake"."card_evidence" IS 'What speaks against a card, per half hour in which something does. No alert yet: see fraud_score.';
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

-- card_velocity: One row an alert: a card that bought dear things too fast. Raised once a burst, by the window that saw the third purchase.
CREATE OR REPLACE VIEW "lake"."card_velocity" AS
SELECT
  "window_start",
  "window_end",
  "event_date",
  "card_token",
  "rule",
  "evidence",
  "purchases",
  "merchants",
  "spend",
  "first_event_time",
  "last_event_time",
  "transaction_ids"
FROM delta_scan('s3://bucket/lake/card_velocity');
COMMENT ON VIEW "lake"."card_velocity" IS 'One row an alert: a card that bought dear things too fast. Raised once a burst, by the window that saw the third purchase.';
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

-- category_hour: Spend and fraud per category and hour. One row a closed window and group: final, appended once.
CREATE OR REPLACE VIEW "lake"."category_hour" AS
SELECT
  "window_start",
  "window_end",
  "event_date",
  "category",
  "transactions",
  "amount",
  "fraud_transactions",
  "fraud_amount"
FROM delta_scan('s3://bucket/lake/category_hour');
COMMENT ON VIEW "lake"."category_hour" IS 'Spend and fraud per category and hour. One row a closed window and group: final, appended once.';
COMMENT ON COLUMN "lake"."category_hour"."window_start" IS 'first instant of the hour, UTC';
COMMENT ON COLUMN "lake"."category_hour"."window_end" IS 'first instant after the hour, UTC';
COMMENT ON COLUMN "lake"."category_hour"."event_date" IS 'UTC date of window_start';
COMMENT ON COLUMN "lake"."category_hour"."category" IS 'what was bought';
COMMENT ON COLUMN "lake"."category_hour"."transactions" IS 'how many';
COMMENT ON COLUMN "lake"."category_hour"."amount" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."category_hour"."fraud_transactions" IS 'how many of them were fraud';
COMMENT ON COLUMN "lake"."category_hour"."fraud_amount" IS 'the sum of those, US dollars; 0 when there were none';

-- city_minute: Spend and fraud per city and minute. One row a closed window and group: final, appended once.
CREATE OR REPLACE VIEW "lake"."city_minute" AS
SELECT
  "window_start",
  "window_end",
  "event_date",
  "state",
  "city",
  "transactions",
  "amount",
  "fraud_transactions",
  "fraud_amount"
FROM delta_scan('s3://bucket/lake/city_minute');
COMMENT ON VIEW "lake"."city_minute" IS 'Spend and fraud per city and minute. One row a closed window and group: final, appended once.';
COMMENT ON COLUMN "lake"."city_minute"."window_start" IS 'first instant of the minute, UTC';
COMMENT ON COLUMN "lake"."city_minute"."window_end" IS 'first instant after the minute, UTC';
COMMENT ON COLUMN "lake"."city_minute"."event_date" IS 'UTC date of window_start';
COMMENT ON COLUMN "lake"."city_minute"."state" IS 'the card holder''s, two letters';
COMMENT ON COLUMN "lake"."city_minute"."city" IS 'the card holder''s; key on state and city';
COMMENT ON COLUMN "lake"."city_minute"."transactions" IS 'how many';
COMMENT ON COLUMN "lake"."city_minute"."amount" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."city_minute"."fraud_transactions" IS 'how many of them were fraud';
COMMENT ON COLUMN "lake"."city_minute"."fraud_amount" IS 'the sum of those, US dollars; 0 when there were none';

-- epochs: The books: one row per epoch and shard, and for each read = written + duplicates + rejected.
CREATE OR REPLACE VIEW "lake"."epochs" AS
SELECT
  "commit_time",
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
  "shard_watermark",
  "watermark",
  "lag_ms"
FROM delta_scan('s3://bucket/lake/epochs');
COMMENT ON VIEW "lake"."epochs" IS 'The books: one row per epoch and shard, and for each read = written + duplicates + rejected.';
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

-- fraud_alerts: One row an alert: which rule fired, on which transaction.
CREATE OR REPLACE VIEW "lake"."fraud_alerts" AS
SELECT
  "event_time",
  "event_date",
  "transaction_id",
  "card_token",
  "merchant",
  "category",
  "amount",
  "city",
  "state",
  "rule"
FROM delta_scan('s3://bucket/lake/fraud_alerts');
COMMENT ON VIEW "lake"."fraud_alerts" IS 'One row an alert: which rule fired, on which transaction.';
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

-- fraud_score: One row an alert: a card whose points reached seven. Raised once a burst, by the window in which they did.
CREATE OR REPLACE VIEW "lake"."fraud_score" AS
SELECT
  "window_start",
  "window_end",
  "event_date",
  "card_token",
  "rule",
  "evidence",
  "score",
  "purchases",
  "night_purchases",
  "outliers",
  "spend",
  "first_event_time",
  "last_event_time",
  "transaction_ids"
FROM delta_scan('s3://bucket/lake/fraud_score');
COMMENT ON VIEW "lake"."fraud_score" IS 'One row an alert: a card whose points reached seven. Raised once a burst, by the window in which they did.';
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

-- night_burst: One row an alert: suspect purchases of one card in one night. Raised once a night, by the window that saw the second one.
CREATE OR REPLACE VIEW "lake"."night_burst" AS
SELECT
  "window_start",
  "window_end",
  "event_date",
  "card_token",
  "rule",
  "evidence",
  "purchases",
  "merchants",
  "spend",
  "first_event_time",
  "last_event_time",
  "transaction_ids"
FROM delta_scan('s3://bucket/lake/night_burst');
COMMENT ON VIEW "lake"."night_burst" IS 'One row an alert: suspect purchases of one card in one night. Raised once a night, by the window that saw the second one.';
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

-- rejects: What could not be decoded, broke a rule or contradicted an earlier row: kept with the reason, so that it can be mended and sent again.
CREATE OR REPLACE VIEW "lake"."rejects" AS
SELECT
  "arrival_time",
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
FROM delta_scan('s3://bucket/lake/rejects');
COMMENT ON VIEW "lake"."rejects" IS 'What could not be decoded, broke a rule or contradicted an earlier row: kept with the reason, so that it can be mended and sent again.';
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

-- state_minute: Spend and fraud per state and minute. One row a closed window and group: final, appended once.
CREATE OR REPLACE VIEW "lake"."state_minute" AS
SELECT
  "window_start",
  "window_end",
  "event_date",
  "state",
  "transactions",
  "amount",
  "fraud_transactions",
  "fraud_amount"
FROM delta_scan('s3://bucket/lake/state_minute');
COMMENT ON VIEW "lake"."state_minute" IS 'Spend and fraud per state and minute. One row a closed window and group: final, appended once.';
COMMENT ON COLUMN "lake"."state_minute"."window_start" IS 'first instant of the minute, UTC';
COMMENT ON COLUMN "lake"."state_minute"."window_end" IS 'first instant after the minute, UTC';
COMMENT ON COLUMN "lake"."state_minute"."event_date" IS 'UTC date of window_start';
COMMENT ON COLUMN "lake"."state_minute"."state" IS 'the card holder''s, two letters';
COMMENT ON COLUMN "lake"."state_minute"."transactions" IS 'how many';
COMMENT ON COLUMN "lake"."state_minute"."amount" IS 'their sum, US dollars';
COMMENT ON COLUMN "lake"."state_minute"."fraud_transactions" IS 'how many of them were fraud';
COMMENT ON COLUMN "lake"."state_minute"."fraud_amount" IS 'the sum of those, US dollars; 0 when there were none';

-- suspect_purchases: One row a purchase of a kind and an amount that stolen cards pay for. No alert yet: see night_burst and fraud_score.
CREATE OR REPLACE VIEW "lake"."suspect_purchases" AS
SELECT
  "event_time",
  "event_date",
  "transaction_id",
  "card_token",
  "merchant",
  "category",
  "amount",
  "at_night"
FROM delta_scan('s3://bucket/lake/suspect_purchases');
COMMENT ON VIEW "lake"."suspect_purchases" IS 'One row a purchase of a kind and an amount that stolen cards pay for. No alert yet: see night_burst and fraud_score.';
COMMENT ON COLUMN "lake"."suspect_purchases"."event_time" IS 'when the card was used';
COMMENT ON COLUMN "lake"."suspect_purchases"."event_date" IS 'UTC date of event_time';
COMMENT ON COLUMN "lake"."suspect_purchases"."transaction_id" IS 'the transaction';
COMMENT ON COLUMN "lake"."suspect_purchases"."card_token" IS 'keyed token of the card number';
COMMENT ON COLUMN "lake"."suspect_purchases"."merchant" IS 'name of the merchant';
COMMENT ON COLUMN "lake"."suspect_purchases"."category" IS 'what was bought';
COMMENT ON COLUMN "lake"."suspect_purchases"."amount" IS 'US dollars';
COMMENT ON COLUMN "lake"."suspect_purchases"."at_night" IS 'from 22:00 to 04:00, by the clock of event_time';

-- transactions: Every valid card transaction, once: the log from which everything else in the lake can be rebuilt.
CREATE OR REPLACE VIEW "lake"."transactions" AS
SELECT
  "event_time",
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
  "_arrival_time",
  "_epoch",
  "_late"
FROM delta_scan('s3://bucket/lake/transactions');
COMMENT ON VIEW "lake"."transactions" IS 'Every valid card transaction, once: the log from which everything else in the lake can be rebuilt.';
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

-- every_type: Every type there is, it's here so that quotes, "doubled" or not, and back\slashes, survive.
CREATE OR REPLACE VIEW "lake"."every_type" AS
SELECT
  "at_time",
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
FROM delta_scan('s3://bucket/lake/every_type');
COMMENT ON VIEW "lake"."every_type" IS 'Every type there is; it''s here so that quotes, "doubled" or not, and back\slashes; survive.';
COMMENT ON COLUMN "lake"."every_type"."at_time" IS 'a time; not the end of a statement';
COMMENT ON COLUMN "lake"."every_type"."day" IS 'the card holder''s day';
COMMENT ON COLUMN "lake"."every_type"."a_text" IS 'with a \ and a "quote"';
COMMENT ON COLUMN "lake"."every_type"."a_flag" IS 'it''s ''quoted'' -- and no comment';
COMMENT ON COLUMN "lake"."every_type"."a_short" IS '`ticked`';
COMMENT ON COLUMN "lake"."every_type"."an_int" IS '50 % of $1, {2}';
COMMENT ON COLUMN "lake"."every_type"."a_long" IS 'größer';
COMMENT ON COLUMN "lake"."every_type"."a_float" IS '\';
COMMENT ON COLUMN "lake"."every_type"."a_double" IS 'a much longer comment than any catalog of Amazon takes for a column, which has to be cut somewhere near its two hundred and fifty-fifth character, so that the table can be made at all, and this one goes on and on and on until it has surely reached that length, whatever it is worth';
COMMENT ON COLUMN "lake"."every_type"."some_bytes" IS 'raw';
COMMENT ON COLUMN "lake"."every_type"."_epoch" IS 'the epoch that committed the row';
