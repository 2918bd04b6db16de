-- error: 5:6: no table `cards` of the lake; there is `by_minute`, `declared`, `growing`, `large`, `untold`; or declare one in `lake.contracts`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM transactions
JOIN cards USING (card_token)
