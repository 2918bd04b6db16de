#!/bin/sh
# What looking after a lake costs: two dates in thousands of small files, then `lake compact` and the others by hand, with
# their time and most resident memory; the same over a hundred thousand files; and how long rows of a live stream wait for
# their commit beside a compaction and without.
#
#   cargo build --release && benches/compaction.sh ./target/release/lakeward [ROWS] [ROWS_AN_EPOCH] [FILES]
set -eu
lakeward=$1
rows=${2:-200000}
epoch=${3:-200}
files=${4:-100000}
here=$(dirname "$0")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export LAKEWARD_TOKEN_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f

"$lakeward" simulate --rows "$rows" --out "$folder/all.csv" > "$folder/said"
python3 "$here/spread.py" "$folder/all.csv" "$folder/days.csv" 49
mkdir "$folder/queries"

run() {
    python3 "$here/measured.py" "$@"
}
with() {
    "$lakeward" --set "lake.url=$folder/lake" --set "queries.dir=$folder/queries" "$@"
}
on() {
    name=$1; shift
    run "$name" "$lakeward" --set "lake.url=$folder/lake" --set "queries.dir=$folder/queries" "$@"
}
# A paced file is read in pages of a tenth of a second.
on "read" --set "commit.rows_max=$epoch" --set maintenance.enabled=false \
    run --source "$folder/days.csv" --pace $((epoch * 10)) --until-caught-up > "$folder/said" 2>&1
tail -n 1 "$folder/said"
cp -r "$folder/lake" "$folder/before"
care() {
    on "status" lake status
    on "compact" lake compact
    on "manifest" lake manifest
    on "checkpoint" lake checkpoint
    on "vacuum --full" lake vacuum --full
    on "status" lake status
}
care
on "audit" audit > "$folder/audited"
tail -n 2 "$folder/audited"

rm -rf "$folder/lake"
cp -r "$folder/before" "$folder/lake"
python3 "$here/many_files.py" "$folder/lake/transactions" "$files"
on "lake check" lake check > "$folder/checked" || tail -n 1 "$folder/checked"
on "sql, every row" sql "select count(*), sum(amount) from transactions"
on "sql, one date" sql "select count(*), sum(amount) from transactions where event_date = DATE '2020-03-01'"
on "a job's start and end" run --source "$folder/days.csv" --until-caught-up > "$folder/said" 2>&1
tail -n 1 "$folder/said"
# The books know nothing of the copies, so it finds differences.
on "audit" audit > "$folder/audited" || tail -n 1 "$folder/audited"
care
cp queries/*.sql "$folder/queries"
for kind in false true; do
    rm -rf "$folder/lake"
    cp -r "$folder/before" "$folder/lake"
    run "${SECONDS_LIVE:-90}" "live, maintenance.enabled=$kind" "$lakeward" --set "lake.url=$folder/lake" \
        --set "queries.dir=$folder/queries" --set commit.interval=2s --set "maintenance.enabled=$kind" \
        --set maintenance.interval=1s --set simulate.rate=2000 --set simulate.history=1m run > "$folder/said" 2>&1
    tail -n 1 "$folder/said"
    python3 "$here/waited.py" "maintenance.enabled=$kind" "$lakeward" "$folder/lake"
    with lake status | grep -E '^(table|transactions) '
done
