-- error: 2:26: table `update`: a reserved word of Athena or Redshift; take another, like `update_value`
CREATE MATERIALIZED VIEW update AS
SELECT event_date, city FROM transactions
