-- error: 2:1: DELETE: a table of the lake is filled by the streaming job only, one epoch at a time; to keep rows, write `COPY (SELECT …) TO 'file.parquet'`, or a materialized view in `queries/`
DELETE FROM transactions WHERE is_fraud
