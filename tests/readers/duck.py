"""Runs SQL from standard input in DuckDB, with its own Delta and S3 readers; prints the rows as JSON, one array a row."""
import datetime
import decimal
import importlib
import json
import os
import sys

import duckdb

database = duckdb.connect()
for extension in ("httpfs", "aws", "delta"):
    package = importlib.import_module(f"duckdb_extension_{extension}")
    found = os.walk(os.path.join(os.path.dirname(package.__file__), "extensions"))
    file = next(os.path.join(path, name) for path, _, names in found for name in names if name == f"{extension}.duckdb_extension")
    database.execute(f"LOAD '{file}'")
database.execute("SET TimeZone = 'UTC'")


def plain(value):
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("latin-1")
    if isinstance(value, (decimal.Decimal, datetime.date, datetime.datetime)):
        return str(value)
    return value


for row in database.execute(sys.stdin.read()).fetchall():
    print(json.dumps([plain(value) for value in row]))
