"""How long rows wait to be seen: from the purchase to the commit that shows it, of each commit's oldest and newest row.
(The embedded stream tells arrivals in whole seconds; the live feed sends a purchase within a tenth of one.)

`waited.py NAME LAKEWARD LAKE`: percentiles over the commits of the lake's newest source. A commit's time is that of its file.
"""
import csv
import io
import json
import pathlib
import subprocess
import sys

name, lakeward, lake = sys.argv[1:]
seen = {}
for commit in (pathlib.Path(lake) / "transactions/_delta_log").glob("*.json"):
    for line in commit.read_text().splitlines():
        action = json.loads(line)
        if "txn" in action:
            seen.setdefault(action["txn"]["version"], commit.stat().st_mtime)
statement = (
    "select _epoch, to_unixtime(min(event_time)), to_unixtime(max(event_time)) from transactions "
    "where event_time > (select max(event_time) from transactions) - interval '10 minutes' "
    "and _source not like 'file%' group by _epoch"
)
command = [lakeward, "--set", f"lake.url={lake}", "sql", "--format", "csv", statement]
rows = list(csv.reader(io.StringIO(subprocess.run(command, check=True, capture_output=True, text=True).stdout)))[1:]
waits = sorted((seen[int(epoch)] - float(oldest), seen[int(epoch)] - float(newest)) for epoch, oldest, newest in rows)
for which, part in (("oldest", 0), ("newest", 1)):
    ordered = sorted(wait[part] for wait in waits)
    shown = ", ".join(f"p{p} {ordered[min(len(ordered) - 1, len(ordered) * p // 100)]:.2f} s" for p in (50, 90, 99))
    print(f"{name}: {len(ordered)} commits, the {which} row waited {shown}")
