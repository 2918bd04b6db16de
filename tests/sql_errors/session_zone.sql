-- error: 4:61: a session has no offset and no time zone like `'UTC'`; after the gap come the columns that sessions are of
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM SESSION(transactions, event_time, INTERVAL '1 minute', 'UTC')
