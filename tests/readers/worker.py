"""DuckDB for many cases: reads a JSON array of statements a line, answers a line with the rows of each, or its error."""
import datetime
import decimal
import json
import sys

import duckdb

database = duckdb.connect()
database.execute("SET TimeZone = 'UTC'")
database.execute("SET threads = 1")


def plain(value):
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, (datetime.date, datetime.datetime)):
        return str(value)
    return value


def run(statement):
    try:
        return [[plain(value) for value in row] for row in database.execute(statement).fetchall()]
    except duckdb.Error as error:
        return {"error": str(error)}


for line in sys.stdin:
    print(json.dumps([run(statement) for statement in json.loads(line)]), flush=True)
