-- error: 5:28: column `table`: a reserved word of Athena or Redshift; take another, like `table_value`
-- error: 5:46: column `State`: expected lower-case letters, digits and `_`, a letter first
-- error: 5:67: `_state`: a leading `_` marks what the engine fills; did you mean `_late`?
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city AS "table", state AS "State", category AS _state FROM transactions
