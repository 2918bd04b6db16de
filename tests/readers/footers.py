"""What engines without page indexes read for a statement, worked out from Delta logs and Parquet footers alone.

Each line of standard input is {"lake": folder, "sql": statement in Athena's dialect}; answered is
{"tables": {table: {"files": live, "kept": files that may hold rows, "stored": bytes of the live ones, "row_groups": bytes,
"whole_files": bytes}}} a line. Both leave out dates by the folder's name and files by the log's bounds, then row groups by the
footer's, as Athena's documentation says of its engine. `row_groups` is a footer and the chunks of needed columns; for
`whole_files` a file below three megabytes is read in one piece, which is Trino's `parquet.small-file-threshold`. Only what a WHERE
compares with constants leaves anything out: no bloom filters, no bounds learnt from the other side of a join.
"""
import datetime
import decimal
import json
import os
import sys

import pyarrow.parquet
import sqlglot
from sqlglot import exp
from sqlglot.optimizer.qualify import qualify

from delta_log import replay

SMALL_FILE_BYTES = 3 << 20
# Length and magic number behind the footer.
FOOTER_END_BYTES = 8
COMPARISONS = {exp.EQ: "=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
UTC = datetime.timezone.utc


def value(text, delta_type):
    """A constant, or a bound of a log, as footers give the bounds of its column."""
    if delta_type == "date":
        return datetime.date.fromisoformat(text)
    if delta_type == "timestamp":
        time = datetime.datetime.fromisoformat(text)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    if delta_type == "string":
        return text
    return decimal.Decimal(str(text))


def constant(node):
    while isinstance(node, (exp.Cast, exp.Paren)):
        node = node.this
    return node.this if isinstance(node, exp.Literal) else None


def conjuncts(select, alias):
    """(column, comparison, text) of each part of the WHERE that compares a column of this table with a constant."""
    where = select.args.get("where")
    for part in where.this.flatten() if where and isinstance(where.this, exp.And) else filter(None, [where and where.this]):
        part = part.unnest()
        if isinstance(part, exp.Between):
            sides = [(part.this, ">=", part.args["low"]), (part.this, "<=", part.args["high"])]
        elif type(part) in COMPARISONS:
            sides = [(part.this, COMPARISONS[type(part)], part.expression)]
        else:
            continue
        for column, comparison, other in sides:
            while isinstance(column, exp.Cast):
                column = column.this
            if isinstance(column, exp.Column) and column.table == alias and constant(other) is not None:
                yield column.name, comparison, constant(other)


def may_hold(low, high, comparison, wanted):
    """Whether values between two bounds, either of which may be unknown, may compare so."""
    above = low is None or (low < wanted if comparison == "<" else low <= wanted)
    below = high is None or (high > wanted if comparison == ">" else high >= wanted)
    return {"=": above and below, "<": above, "<=": above, ">": below, ">=": below}[comparison]


def table_read(folder, columns, filters):
    snapshot = replay(folder)
    types = dict(snapshot.columns)
    filters = [(column, comparison, value(text, types[column])) for column, comparison, text in filters]
    found = dict.fromkeys(("files", "kept", "stored", "row_groups", "whole_files"), 0)
    for path, partition in snapshot.files.items():
        size = os.path.getsize(os.path.join(folder, path))
        found["files"] += 1
        found["stored"] += size
        stats = json.loads(snapshot.stats[path] or "{}")

        def logged(column, kind):
            text = partition.get(column, stats.get(kind, {}).get(column))
            return None if text is None else value(text, types[column])

        bounds = [(logged(column, "minValues"), logged(column, "maxValues")) for column, _, _ in filters]
        if not all(may_hold(*bound, *wanted) for bound, (_, *wanted) in zip(bounds, filters)):
            continue
        found["kept"] += 1
        parts = from_footer(os.path.join(folder, path), columns, [f for f in filters if f[0] not in partition])
        found["row_groups"] += parts
        found["whole_files"] += size if size < SMALL_FILE_BYTES else parts
    return found


def from_footer(file, columns, filters):
    """Bytes of the footer, and of the needed columns of those row groups that may hold rows."""
    footer = pyarrow.parquet.read_metadata(file)
    total = footer.serialized_size + FOOTER_END_BYTES
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        chunks = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}

        def kept(column, *wanted):
            known = chunks[column].statistics if column in chunks else None
            if known is None or not known.has_min_max:
                return True
            return may_hold(known.min, known.max, *wanted)

        if all(kept(*filter_) for filter_ in filters):
            total += sum(chunks[column].total_compressed_size for column in columns if column in chunks)
    return total


def statement_read(lake, sql):
    tree = sqlglot.parse_one(sql, dialect="athena")
    names = {table.name for table in tree.find_all(exp.Table)}
    folders = {name: os.path.join(lake, name) for name in names}
    schema = {name: {column: kind for column, kind in replay(folder).columns} for name, folder in folders.items()}
    tree = qualify(tree, schema=schema, dialect="athena", quote_identifiers=False)
    found = {}
    for table in tree.find_all(exp.Table):
        columns = {column.name for column in tree.find_all(exp.Column) if column.table == table.alias}
        filters = list(conjuncts(tree, table.alias))
        assert table.name not in found, f"{table.name} is read twice"
        found[table.name] = table_read(folders[table.name], columns, filters)
    return {"tables": found}


for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(statement_read(asked["lake"], asked["sql"])), flush=True)
