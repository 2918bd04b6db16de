-- error: 4:20: a list in FROM joins every row with every other; write `FROM transactions a JOIN cards b ON a.key = b.key`
CREATE MATERIALIZED VIEW q AS
SELECT event_date, city
FROM transactions, cards
