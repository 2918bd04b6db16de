"""A Delta log replayed in plain Python: which files a table has at a version, and under which columns.

For readers that know no Delta, and as the judge between those that do. Nothing here is Lakeward's code or a Delta library's.
"""
import dataclasses
import hashlib
import json
import os
import time
import urllib.parse

import pyarrow.parquet

MANIFESTS = "_symlink_format_manifest"
# A writer that is between two manifests and their state is so for some milliseconds.
PATIENCE_SECONDS = 60


@dataclasses.dataclass
class Snapshot:
    version: int
    # (name, Delta type)
    columns: list
    partition_by: list
    # path below the table -> {partition column: text}
    files: dict
    # path below the table -> statistics in JSON, or None
    stats: dict = dataclasses.field(default_factory=dict)


def replay(table, version=None):
    log = os.path.join(table, "_delta_log")
    names = os.listdir(log)
    commits = sorted(int(name[:20]) for name in names if name.endswith(".json") and len(name) == 25)
    checkpoints = sorted(int(name[:20]) for name in names if name.endswith(".checkpoint.parquet") and name[:20].isdigit())
    newest = max(commits + checkpoints) if version is None else version
    snapshot = Snapshot(newest, [], [], {})
    start = max((at for at in checkpoints if at <= newest), default=None)
    if start is not None:
        columns = ["metaData", "add"]
        rows = pyarrow.parquet.read_table(os.path.join(log, f"{start:020}.checkpoint.parquet"), columns=columns)
        for action in rows.to_pylist():
            take(snapshot, {kind: value for kind, value in action.items() if value})
    for at in range(0 if start is None else start + 1, newest + 1):
        with open(os.path.join(log, f"{at:020}.json"), encoding="utf-8") as commit:
            actions = [json.loads(line) for line in commit if line.strip()]
        # Within one commit what is taken out goes before what is added.
        for action in sorted(actions, key=lambda action: "add" in action):
            take(snapshot, action)
    return snapshot


def take(snapshot, action):
    if "metaData" in action:
        schema = json.loads(action["metaData"]["schemaString"])
        snapshot.columns = [(field["name"], field["type"]) for field in schema["fields"]]
        snapshot.partition_by = list(action["metaData"]["partitionColumns"])
    if "remove" in action:
        snapshot.files.pop(urllib.parse.unquote(action["remove"]["path"]), None)
    if "add" in action:
        add = action["add"]
        assert not add.get("deletionVector"), "a deletion vector"
        path = urllib.parse.unquote(add["path"])
        snapshot.files[path] = dict(add["partitionValues"])
        snapshot.stats[path] = add.get("stats")


def manifested(table):
    """Files named by the table's manifests, as paths below the table; None for a table without manifests."""
    manifests = manifest_texts(table)
    return None if manifests is None else named(manifests)


def manifested_version(table):
    """(version, files named) of manifests that may be written over meanwhile; None for a table without manifests.

    Their state says which text each manifest has at its version: they are read until all of them are those.
    """
    if not os.path.isdir(os.path.join(table, MANIFESTS)):
        return None
    begun = time.monotonic()
    while time.monotonic() < begun + PATIENCE_SECONDS:
        try:
            manifests = manifest_texts(table)
            with open(os.path.join(table, MANIFESTS, "_state.json"), "rb") as file:
                state = json.load(file)
        except FileNotFoundError:
            continue
        told = {folder: recorded["sha256"] for folder, recorded in state["partitions"].items()}
        emptied = state.get("emptied", [])
        found = {folder: text for folder, text in manifests.items() if folder not in emptied}
        if {folder: hashlib.sha256(text).hexdigest() for folder, text in found.items()} == told:
            return state["version"], named(found)
    raise AssertionError(f"the manifests of {table} never were those of their state")


def manifest_texts(table):
    """The text of each partition's manifest, by the partition's folder; None for a table without manifests."""
    root = os.path.join(table, MANIFESTS)
    if not os.path.isdir(root):
        return None
    texts = {}
    for folder, _, names in os.walk(root):
        if "manifest" in names:
            with open(os.path.join(folder, "manifest"), "rb") as manifest:
                texts[os.path.relpath(folder, root)] = manifest.read()
    return texts


def named(manifests):
    """Paths below the table of the files that manifests name."""
    files = []
    for folder, text in manifests.items():
        for uri in filter(None, map(str.strip, text.decode().splitlines())):
            # The URI's end is the path below the table, wherever the table will be.
            files.append(uri[uri.rindex("/" + folder + "/") + 1 :] if folder != "." else os.path.basename(uri))
    return files


def assert_manifests(table, snapshot, pinned):
    """The manifests name the files of the log: of the snapshot, or, while it is written, of the version they are at."""
    files = snapshot.files
    if pinned:
        standing = manifested_version(table)
        if standing is None:
            return
        version, names = standing
        files = replay(table, version).files
    else:
        names = manifested(table)
        if names is None:
            return
    assert sorted(names) == sorted(files), f"manifests of {table} name {sorted(names)}, the log {sorted(files)}"
