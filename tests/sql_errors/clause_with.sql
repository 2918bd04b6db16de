-- error: 3:1: WITH is not supported yet in a standing query; write one SELECT over the stream
CREATE MATERIALIZED VIEW q AS
WITH t AS (SELECT 1) SELECT * FROM t
