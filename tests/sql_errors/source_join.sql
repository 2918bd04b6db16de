-- error: 5:6: more than one source: joins are not supported yet; write a batch query over the lake's tables
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM transactions
JOIN cards USING (card_token)
