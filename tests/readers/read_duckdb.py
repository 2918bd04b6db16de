"""DuckDB: its own SQL and Parquet reader, over delta-kernel."""
import os

import duckdb
import duckdb_extension_delta

from reading import from_row, select, serve

database = duckdb.connect()
folder = os.path.join(os.path.dirname(duckdb_extension_delta.__file__), "extensions")
extension = next(
    os.path.join(path, name) for path, _, names in os.walk(folder) for name in names if name == "delta.duckdb_extension"
)
database.execute(f"LOAD '{extension}'")
database.execute("SET TimeZone = 'UTC'")


def read(table, snapshot, pinned):
    version = f", version => {snapshot.version}" if pinned else ""
    source = f"delta_scan('file://{table}'{version})"
    rows = database.execute(f"SELECT * FROM {source}").to_arrow_table()
    return rows, from_row(snapshot.columns, database.execute(select(snapshot.columns, source)).fetchone())


serve(read)
