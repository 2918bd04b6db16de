-- error: 3:20: `unnest` makes several rows of one, which a standing query does not; write a batch query
CREATE MATERIALIZED VIEW q AS
SELECT event_date, unnest(string_to_array(city, ',')) AS part FROM transactions
