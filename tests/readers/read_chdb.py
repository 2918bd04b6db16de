"""ClickHouse, inside Python: at the newest version its own reader of Delta logs, at a given one delta-kernel's."""
import os

import chdb
import pyarrow

from reading import from_row, select, serve

# As SQL has it: an aggregate of no rows is NULL.
SETTINGS = "output_format_arrow_string_as_string = 1, aggregate_functions_null_for_empty = 1"


def run(sql, settings):
    return chdb.query(f"{sql} SETTINGS {settings}", "ArrowTable")


def read(table, snapshot, pinned):
    own = "allow_experimental_delta_kernel_rs = 0"
    settings = f"{SETTINGS}, " + (f"delta_lake_snapshot_version = {snapshot.version}" if pinned else own)
    source = f"deltaLakeLocal('{table}/')"
    rows = run(f"SELECT * FROM {source}", settings)
    sums = run(select(snapshot.columns, source), settings)
    return rows, from_row(snapshot.columns, [column[0].as_py() for column in sums.columns])


# Files outside the working folder are refused.
os.chdir("/")
assert pyarrow
serve(read)
