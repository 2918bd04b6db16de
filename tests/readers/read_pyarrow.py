"""pyarrow: Arrow's C++ Parquet reader over the files of the log replayed here, which are those of the manifests; and a check of
footers."""
import os

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from delta_log import assert_manifests
from reading import arrow_type, asked_of, from_row, serve

ENCODINGS = {"PLAIN", "RLE", "RLE_DICTIONARY", "PLAIN_DICTIONARY", "BIT_PACKED"}


def checked(path):
    """What every reader of Parquet needs, as Arrow's C++ code reads the footer."""
    footer = pyarrow.parquet.ParquetFile(path).metadata
    assert footer.format_version in ("1.0", "2.6", "2.4"), f"{path}: format {footer.format_version}"
    for group in range(footer.num_row_groups):
        for place in range(footer.num_columns):
            chunk = footer.row_group(group).column(place)
            where = f"{path}: {chunk.path_in_schema}"
            assert chunk.compression == "SNAPPY", f"{where} is {chunk.compression}"
            assert set(chunk.encodings) <= ENCODINGS, f"{where} is encoded as {chunk.encodings}"
            assert chunk.has_column_index and chunk.has_offset_index, f"{where} has no page index"
            assert chunk.statistics is not None, f"{where} has no statistics"


def read(table, snapshot, pinned):
    assert_manifests(table, snapshot, pinned)
    schema = pyarrow.schema([(name, arrow_type(delta_type)) for name, delta_type in snapshot.columns])
    inside = pyarrow.schema([field for field in schema if field.name not in snapshot.partition_by])
    parts = [schema.empty_table()]
    for path, partition in snapshot.files.items():
        file = os.path.join(table, path)
        checked(file)
        rows = pyarrow.parquet.ParquetFile(file).read()
        # A column added later is not in older files.
        columns = [
            rows[field.name].cast(field.type)
            if field.name in rows.column_names
            else pyarrow.nulls(rows.num_rows, field.type)
            for field in inside
        ]
        rows = pyarrow.table(columns, schema=inside)
        for name in snapshot.partition_by:
            value = pyarrow.scalar(partition[name]).cast(schema.field(name).type)
            rows = rows.append_column(schema.field(name), pyarrow.repeat(value, rows.num_rows))
        parts.append(rows.select(schema.names))
    rows = pyarrow.concat_tables(parts)
    calls = {"count": pyarrow.compute.count, "min": pyarrow.compute.min, "max": pyarrow.compute.max, "sum": pyarrow.compute.sum}
    values = [rows.num_rows]
    for name, delta_type in snapshot.columns:
        values += [calls[call](rows[name]).as_py() for call in asked_of(delta_type)]
    return rows, from_row(snapshot.columns, values)


serve(read)
