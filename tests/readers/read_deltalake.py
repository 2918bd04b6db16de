"""delta-rs, from Python: its own log and its own DataFusion, of other versions than Lakeward's."""
import pyarrow
from deltalake import DeltaTable, QueryBuilder

from reading import from_row, select, serve


def read(table, snapshot, pinned):
    opened = DeltaTable(table, version=snapshot.version if pinned else None)
    assert opened.version() == snapshot.version, f"version {opened.version()}, not {snapshot.version}"
    builder = QueryBuilder().register("t", opened)
    rows = pyarrow.table(builder.execute("SELECT * FROM t").read_all())
    sums = pyarrow.table(builder.execute(select(snapshot.columns, "t")).read_all())
    return rows, from_row(snapshot.columns, [column[0].as_py() for column in sums.columns])


serve(read)
