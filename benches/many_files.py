"""A table with so many files that its log and not its rows are what a reader holds: `many_files.py TABLE FILES`.

The files there are get links under names of their own, a thousand a commit, each as the log says of the first. The rows are
then there many times over: it is a table to be looked after and not one to be audited.
"""
import json
import os
import pathlib
import sys
import uuid

FILES_A_COMMIT = 1_000

table, wanted = pathlib.Path(sys.argv[1]), int(sys.argv[2])
log = table / "_delta_log"
commits = sorted(log.glob("*.json"))
adds = [json.loads(line)["add"] for commit in commits for line in commit.read_text().splitlines() if '"add"' in line]
version, made = int(commits[-1].stem), len(adds)
while made < wanted:
    version += 1
    lines = []
    for number in range(made, min(made + FILES_A_COMMIT, wanted)):
        add = dict(adds[number % len(adds)])
        folder, name = add["path"].rsplit("/", 1)
        epoch = name.split("-")[1]
        add["path"] = f"{folder}/part-{epoch}-{uuid.uuid4()}.snappy.parquet"
        os.link(table / folder / name, table / add["path"])
        lines.append(json.dumps({"add": add}))
    (log / f"{version:020}.json").write_text("\n".join(lines) + "\n")
    made += len(lines)
print(f"{made} files in {version + 1} versions")
