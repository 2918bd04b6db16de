-- What `contract_*.sql` are compared with.
CREATE TABLE declared (
  event_date DATE NOT NULL,
  city       BIGINT,
  amount     DECIMAL(20,2),
  at         TIMESTAMP
) WITH (partition_by = 'event_date');
