"""Runs SQL from standard input in DuckDB, with its own Delta reader; prints the rows as JSON, one array a row."""
import datetime
import decimal
import json
import os
import sys

import duckdb
import duckdb_extension_delta

database = duckdb.connect()
folder = os.path.join(os.path.dirname(duckdb_extension_delta.__file__), "extensions")
extension = next(
    os.path.join(path, name) for path, _, names in os.walk(folder) for name in names if name == "delta.duckdb_extension"
)
database.execute(f"LOAD '{extension}'")
database.execute("SET TimeZone = 'UTC'")


def plain(value):
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("latin-1")
    if isinstance(value, (decimal.Decimal, datetime.date, datetime.datetime)):
        return str(value)
    return value


for row in database.execute(sys.stdin.read()).fetchall():
    print(json.dumps([plain(value) for value in row]))
