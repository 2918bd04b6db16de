-- error: 4:20: `_late` is known only once the epoch is written; leave it out, or write a batch query
-- error: 4:56: `_epoch` is known only once the epoch is written; leave it out, or write a batch query
CREATE MATERIALIZED VIEW q AS
SELECT event_date, _late, city FROM transactions WHERE _epoch > 5
