-- error: 2:1: CREATE TABLE: `spend` would vanish with this statement; for a file, write `COPY (SELECT …) TO 'file.parquet'`; for a table of the lake, write `CREATE MATERIALIZED VIEW spend AS SELECT …` in `queries/`; for a part of one statement, write `WITH name AS (SELECT …) SELECT …`
CREATE TABLE spend AS
SELECT state, sum(amount) AS amount FROM transactions GROUP BY state
