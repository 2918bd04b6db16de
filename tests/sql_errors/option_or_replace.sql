-- error: 2:1: a view is neither replaced nor temporary: the file is the query, edit it in place; write `CREATE MATERIALIZED VIEW name`
CREATE OR REPLACE MATERIALIZED VIEW q
AS SELECT event_date, city FROM transactions
