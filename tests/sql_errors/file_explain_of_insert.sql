-- error: 2:1: INSERT: `transactions` of the lake is filled by the streaming job only, one epoch at a time; to keep rows, write `COPY (SELECT …) TO 'file.parquet'`, or a materialized view in `queries/`
EXPLAIN INSERT INTO transactions SELECT * FROM transactions
