"""What all readers share: what is asked of them, and the form of their answers.

A reader is a program that gives `serve` a function: (table's folder, snapshot, whether to pin its version) to (its rows as an
Arrow table, its own aggregates). Asked, on standard input, is one line of JSON a table: {"table": folder, "version": n or
null}. Answered is one line of JSON a table:

  {"version": the version read, "rows": n, "hash": of all rows,
   "columns": {name: {"type": text, "nulls": n, "min": text, "max": text, "sum": text or null}}}

Every value of a row becomes text in one canonical form: whole numbers and decimals in all digits, times in microseconds since 1970,
floats as Python's shortest form that reads back, binary in hex. The hash is SHA-256 of the rows so written, sorted. Aggregates are
computed by the engine itself, not from the rows it handed out.
"""
import datetime
import decimal
import hashlib
import json
import sys

import pyarrow
import pyarrow.compute

from delta_log import replay

NULL = "\\N"
NUMBERS = ("long", "integer", "short", "float", "double")


def arrow_type(delta_type):
    simple = {
        "string": pyarrow.string(),
        "long": pyarrow.int64(),
        "integer": pyarrow.int32(),
        "short": pyarrow.int16(),
        "boolean": pyarrow.bool_(),
        "double": pyarrow.float64(),
        "float": pyarrow.float32(),
        "date": pyarrow.date32(),
        "binary": pyarrow.binary(),
        "timestamp": pyarrow.timestamp("us", tz="UTC"),
    }
    if delta_type in simple:
        return simple[delta_type]
    precision, scale = delta_type.removeprefix("decimal(").removesuffix(")").split(",")
    return pyarrow.decimal128(int(precision), int(scale))


def texts(column, delta_type):
    """A column's values in their canonical form."""
    compute = pyarrow.compute
    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    # A cast that is safe: a reader that hands out another type must lose nothing by it.
    column = column.cast(arrow_type(delta_type))
    if delta_type == "timestamp":
        return column.cast(pyarrow.int64()).cast(pyarrow.string())
    if delta_type in ("float", "double"):
        return pyarrow.array([None if v is None else repr(v) for v in column.to_pylist()], pyarrow.string())
    if delta_type == "binary":
        return pyarrow.array([None if v is None else v.hex() for v in column.to_pylist()], pyarrow.string())
    if delta_type.startswith("decimal"):
        return pyarrow.array([None if v is None else format(v, "f") for v in column.to_pylist()], pyarrow.string())
    if delta_type == "string":
        for character, escape in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n")):
            column = compute.replace_substring(column, character, escape)
        return column
    return column.cast(pyarrow.string())


def hashed(rows, columns):
    """SHA-256 of the sorted rows."""
    names = [name for name, _ in columns]
    assert sorted(rows.column_names) == sorted(names), f"columns {rows.column_names}, not {names}"
    parts = [texts(rows[name], delta_type) for name, delta_type in columns]
    lines = pyarrow.compute.binary_join_element_wise(
        *parts, "\t", null_handling="replace", null_replacement=NULL
    )
    digest = hashlib.sha256()
    for line in sorted(lines.to_pylist()):
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def plain(value, delta_type):
    """One value of an aggregate, in its canonical form."""
    if value is None:
        return None
    if isinstance(value, datetime.datetime):
        value = value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)
        return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, (int, float, decimal.Decimal)) and delta_type.startswith("decimal"):
        scale = int(delta_type.removesuffix(")").split(",")[1])
        return format(decimal.Decimal(value).quantize(decimal.Decimal(1).scaleb(-scale), context=EXACT), "f")
    return repr(value) if isinstance(value, float) else str(value)


# Quantising must not round: a sum has the digits its column has.
EXACT = decimal.Context(prec=60, traps=[decimal.Inexact, decimal.InvalidOperation])


def asked_of(delta_type):
    """The aggregates that mean the same in every engine."""
    if delta_type in NUMBERS or delta_type.startswith("decimal"):
        return ("count", "min", "max", "sum")
    return ("count",) if delta_type in ("boolean", "binary") else ("count", "min", "max")


def select(columns, source, quote='"'):
    """The aggregates as SQL, in the order `from_row` reads them."""
    calls = [f"{call}({quote}{name}{quote})" for name, delta_type in columns for call in asked_of(delta_type)]
    return f"SELECT count(*), {', '.join(calls)} FROM {source}"


def from_row(columns, row):
    """(rows, aggregates by column) of the one row of `select`."""
    values = iter(row)
    rows = int(next(values))
    found = {}
    for name, delta_type in columns:
        said = {call: next(values) for call in asked_of(delta_type)}
        found[name] = {
            "type": delta_type,
            "nulls": rows - int(said["count"]),
            **{call: plain(said.get(call), delta_type) for call in ("min", "max", "sum")},
        }
    return rows, found


def serve(read):
    """Answers every question on standard input."""
    for line in sys.stdin:
        asked = json.loads(line)
        snapshot = replay(asked["table"], asked["version"])
        rows, (count, columns) = read(asked["table"], snapshot, asked["version"] is not None)
        assert rows.num_rows == count, f"{rows.num_rows} rows came, {count} were counted"
        answer = {"version": snapshot.version, "rows": count, "hash": hashed(rows, snapshot.columns), "columns": columns}
        print(json.dumps(answer), flush=True)
