-- error: 2:26: table `_alerts`: readers skip folders that start with `_`; choose another name
CREATE MATERIALIZED VIEW _alerts AS
SELECT event_date, city FROM transactions
