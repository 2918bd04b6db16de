"""Polars: its own expressions and Parquet reader; files come from delta-rs."""
import polars

from reading import asked_of, from_row, serve


def read(table, snapshot, pinned):
    lazy = polars.scan_delta(table, version=snapshot.version if pinned else None)
    calls = {"count": lambda c: c.count(), "min": lambda c: c.min(), "max": lambda c: c.max(), "sum": lambda c: c.sum()}
    asked = [
        calls[call](polars.col(name)).alias(f"{name}:{call}")
        for name, delta_type in snapshot.columns
        for call in asked_of(delta_type)
    ]
    row = list(lazy.select(polars.len().alias("rows"), *asked).collect().row(0))
    # A sum of no values is 0 here and NULL in SQL.
    places = [(name, call) for name, delta_type in snapshot.columns for call in asked_of(delta_type)]
    counts = {name: row[at + 1] for at, (name, call) in enumerate(places) if call == "count"}
    for at, (name, call) in enumerate(places):
        if call == "sum" and counts[name] == 0:
            row[at + 1] = None
    return lazy.collect().to_arrow(), from_row(snapshot.columns, row)


serve(read)
