-- error: 3:67: UNNEST makes rows of each row, which a standing query does not; write a batch query
CREATE MATERIALIZED VIEW q AS
SELECT t.event_date, u.part FROM transactions t CROSS JOIN UNNEST(string_to_array(t.city, ',')) AS u(part)
