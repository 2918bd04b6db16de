#!/bin/sh
# What a compaction costs: a lake of two dates in thousands of small files, then `lake compact` with its time and its most
# resident memory; and the same input read again with compaction on the way and without.
#
#   cargo build --release && benches/compaction.sh ./target/release/lakeward [ROWS] [ROWS_AN_EPOCH]
set -eu
lakeward=$1
rows=${2:-400000}
epoch=${3:-200}
# A paced file is read in pages of a tenth of a second.
pace=$((epoch * 10))
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export LAKEWARD_TOKEN_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f

"$lakeward" simulate --rows "$rows" --out "$folder/all.csv" > "$folder/said"
# The same rows, spread over two days and an hour.
python3 - "$folder" "$rows" <<'PYTHON'
import csv, datetime, sys
folder, rows = sys.argv[1], int(sys.argv[2])
start, span = datetime.datetime(2020, 3, 1), 49 * 3600
with open(f"{folder}/all.csv", newline="") as source, open(f"{folder}/days.csv", "w", newline="") as target:
    reader, writer = csv.reader(source), csv.writer(target)
    header = next(reader)
    at = header.index("trans_date_trans_time")
    writer.writerow(header)
    for number, row in enumerate(reader):
        row[at] = (start + datetime.timedelta(seconds=number * span // rows)).strftime("%Y-%m-%d %H:%M:%S")
        writer.writerow(row)
PYTHON
mkdir "$folder/queries"
cp queries/city_minute.sql queries/fraud_alerts.sql "$folder/queries"

# Runs it and says its seconds, CPU seconds and most resident memory.
cat > "$folder/measure.py" <<'PYTHON'
import resource, subprocess, sys, time
begun = time.time()
code = subprocess.run(sys.argv[2:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"{sys.argv[1]}: {time.time() - begun:.1f} s, {used.ru_utime + used.ru_stime:.1f} CPU s, {used.ru_maxrss / 1024:.0f} MiB at most", flush=True)
sys.exit(code)
PYTHON
run() {
    name=$1; lake=$2; shift 2
    python3 "$folder/measure.py" "$name" "$lakeward" --set "lake.url=$folder/$lake" --set "queries.dir=$folder/queries" \
        --set "commit.rows_max=$epoch" "$@"
}
run "read, nothing compacted" small run --source "$folder/days.csv" --pace "$pace" --until-caught-up --json \
    --set maintenance.enabled=false
run "status before" small lake status
run "compact by hand" small lake compact
run "status after" small lake status
run "audit" small audit > "$folder/audited"
tail -n 1 "$folder/audited"
run "read, compacted on the way" beside run --source "$folder/days.csv" --pace "$pace" --until-caught-up --json \
    --set maintenance.interval=1s
