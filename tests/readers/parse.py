"""Parses a script of SQL from standard input in sqlglot's dialect of that name; prints what each statement says, as JSON a line.

Where sqlglot falls back to a `Command`, it has not understood the statement: its text is printed, and the caller decides.
"""
import json
import logging
import re
import sys

import sqlglot
from sqlglot import exp

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
dialect = sys.argv[1]
# Athena's DDL is Hive's; its views are Trino's.
ddl = "hive" if dialect == "athena" else dialect


def column(definition):
    comment = definition.find(exp.CommentColumnConstraint)
    return {
        "name": definition.name,
        "type": definition.args["kind"].sql(dialect=ddl),
        "not_null": definition.find(exp.NotNullColumnConstraint) is not None,
        "comment": comment.this.name if comment else None,
    }


def named(tree):
    return [part.name for part in (tree.args.get("catalog"), tree.args.get("db"), tree.this) if part]


def said(tree):
    what = {"kind": type(tree).__name__.lower()}
    if any(isinstance(node, exp.Command) for node in tree.walk()):
        return {"kind": "command", "text": tree.sql(dialect=dialect, comments=False)}
    if isinstance(tree, exp.Create):
        what["creates"] = tree.kind.lower()
        schema = tree.this
        if isinstance(schema, exp.Schema):
            what["columns"] = [column(part) for part in schema.expressions]
            schema = schema.this
        what["name"] = named(schema) if isinstance(schema, exp.Table) else [schema.name]
        partitioned = tree.find(exp.PartitionedByProperty)
        if partitioned:
            what["partitioned"] = [column(part) for part in partitioned.find_all(exp.ColumnDef)]
        location = tree.find(exp.LocationProperty)
        what["location"] = location.this.name if location else None
        if isinstance(tree.expression, exp.Select):
            what["selects"] = [part.alias_or_name for part in tree.expression.expressions]
            source = tree.expression.find(exp.Table)
            what["from"] = named(source) if isinstance(source.this, exp.Identifier) else source.this.sql(dialect)
    elif isinstance(tree, exp.Comment):
        what["name"] = [part.name for part in tree.this.parts]
        what["comment"] = tree.expression.name
    elif isinstance(tree, exp.Copy):
        what["name"] = named(tree.this)
        what["files"] = [file.name for file in tree.args["files"]]
    elif isinstance(tree, exp.Alter):
        [action] = tree.args["actions"]
        what["name"] = named(tree.this)
        what["partition"] = [equal.expression.name for equal in action.find_all(exp.EQ)]
        what["location"] = action.args["location"].this.name
    return what


def several(tree):
    """An ALTER TABLE that adds several partitions, as so many that add one: sqlglot's grammar takes one at a time."""
    text = tree.sql(dialect=dialect, comments=False) if isinstance(tree, exp.Command) else ""
    head, *partitions = re.split(r"\s(?=PARTITION \()", text)
    if len(partitions) > 1 and re.match(r"ALTER TABLE \S+ ADD IF NOT EXISTS$", head):
        return [sqlglot.parse_one(f"{head} {partition}", dialect=dialect) for partition in partitions]
    return [tree]


for statement in sqlglot.parse(sys.stdin.read(), dialect=dialect):
    if statement is not None and not isinstance(statement, exp.Semicolon):
        for tree in several(statement):
            print(json.dumps(said(tree)))
