-- error: 2:1: CREATE EXTERNAL TABLE: `cards` would vanish with this statement; declare the table in `lake/*.sql`, or load the file as a stream
CREATE EXTERNAL TABLE cards STORED AS PARQUET LOCATION 'cards.parquet'
