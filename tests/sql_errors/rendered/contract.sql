-- A contract with several mistakes: each is drawn where it stands.
CREATE TABLE orders (
  at     TIMESTMP NOT NULL,
  day    DATE NOT NULL,
  Amount DECIMAL(10,2) CHECK (amount > 0),
  update STRING
) WITH (partition_by = 'day', sorted_by = 'at');
