"""Makes the golden input and the expected rows, with DuckDB: run it with the Python of the tests' readers.

Input: 900 transactions over twelve minutes, three states, some amounts equal, every tenth a fraud; a few rows are out of
order by less than the default watermark allows. Expected: each query's SELECT over windows of a minute, as DuckDB
computes it; `window_…` the other windows. `approx_distinct` has no equal in another engine: its groups are small enough for the estimate to be exact.
"""
import json
import pathlib
import random

import duckdb

here = pathlib.Path(__file__).parent
rng = random.Random(42)
start = 1_600_000_020
rows = []
for n in range(900):
    second = start + n * 0.8 + rng.uniform(-3, 3)
    state, cities = rng.choice([("SC", ["Columbia", "Greer"]), ("NC", ["Cary"]), ("WA", ["Orient", "Malone", "Yelm"])])
    rows.append({
        "trans_date_trans_time": second, "cc_num": str(4_000_000_000_000_000 + rng.randrange(40)),
        "merchant": f"fraud_Shop {rng.randrange(9)}", "category": rng.choice(["grocery_pos", "home", "travel"]),
        "amt": rng.choice([1.0, 4.5, 9.99, 107.23, round(rng.uniform(1, 900), 2)]), "first": "Ann", "last": "Lee",
        "gender": "F", "street": "1 Elm Street", "city": rng.choice(cities), "state": state, "zip": "01257",
        "lat": round(rng.uniform(30, 48), 4), "long": round(rng.uniform(-120, -70), 4), "city_pop": rng.randrange(9000),
        "job": "Writer", "dob": "1970-01-02", "trans_num": f"{n:032x}", "unix_time": int(second),
        "merch_lat": 40.5, "merch_long": -80.25, "is_fraud": int(n % 10 == 0),
    })
rows.sort(key=lambda r: r["unix_time"])
con = duckdb.connect()
con.execute("SET TimeZone='UTC'")
for r in rows:
    r["trans_date_trans_time"] = con.execute(
        "SELECT strftime(make_timestamp(CAST(? AS BIGINT) * 1000000), '%Y-%m-%d %H:%M:%S')", [int(r["trans_date_trans_time"])]
    ).fetchone()[0]
(here / "input.ndjson").write_text("".join(json.dumps(r) + "\n" for r in rows))

con.execute(f"""CREATE TABLE t AS SELECT trans_date_trans_time::TIMESTAMP AS event_time, trans_num AS transaction_id,
  CAST(amt AS DECIMAL(20,2)) AS amount, is_fraud = 1 AS is_fraud, city, state, category, lat AS latitude,
  city_pop AS city_population, cc_num, regexp_replace(merchant, '^fraud_', '') AS merchant
  FROM read_json('{here / "input.ndjson"}', format='newline_delimited', columns={{
  trans_date_trans_time:'VARCHAR', trans_num:'VARCHAR', amt:'DECIMAL(20,2)', is_fraud:'INTEGER', city:'VARCHAR',
  state:'VARCHAR', category:'VARCHAR', lat:'DOUBLE', city_pop:'INTEGER', cc_num:'VARCHAR', merchant:'VARCHAR'}})""")


def every(step, size):
    """Rows and the windows that hold them: starts `step` minutes apart, `size` minutes long."""
    minute = "date_trunc('minute', event_time)"
    return (f"(SELECT *, window_start + INTERVAL {size} MINUTE AS window_end FROM (SELECT *, unnest(generate_series("
            f"{minute} - INTERVAL {size - step} MINUTE, {minute}, INTERVAL {step} MINUTE)) AS window_start FROM t))")


def sessions(gap, key):
    """Rows and their sessions, by counting the rows that begin one."""
    by = f"PARTITION BY {key}" if key else ""
    of = f"PARTITION BY {key}, s" if key else "PARTITION BY s"
    begins = f"CASE WHEN event_time - lag(event_time) OVER ({by} ORDER BY event_time) <= INTERVAL {gap} SECOND THEN 0 ELSE 1 END"
    return (f"(SELECT *, min(event_time) OVER ({of}) AS window_start, max(event_time) OVER ({of}) + INTERVAL {gap} SECOND "
            f"AS window_end FROM (SELECT *, sum(b) OVER ({by} ORDER BY event_time, transaction_id ROWS UNBOUNDED PRECEDING) AS s "
            f"FROM (SELECT *, {begins} AS b FROM t)))")


# A window of the language, and the rows with their windows in DuckDB's words.
WINDOWS = {
    "TUMBLE(transactions, event_time, INTERVAL '1 minute')": every(1, 1),
    "HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '3 minutes')": every(1, 3),
    "CUMULATE(transactions, event_time, INTERVAL '1 minute', INTERVAL '5 minutes')":
        "(SELECT * FROM (SELECT *, window_start + unnest([1, 2, 3, 4, 5]) * INTERVAL 1 MINUTE AS window_end FROM "
        "(SELECT *, time_bucket(INTERVAL 5 MINUTE, event_time) AS window_start FROM t)) WHERE event_time < window_end)",
    "SESSION(transactions, event_time, INTERVAL '5 seconds', state)": sessions(5, "state"),
    "SESSION(transactions, event_time, INTERVAL '1 second')": sessions(1, None),
    "TUMBLE(transactions, event_time, INTERVAL '1 day', 'America/New_York')":
        "(SELECT *, (day AT TIME ZONE 'America/New_York') AT TIME ZONE 'UTC' AS window_start, "
        "((day + INTERVAL 1 DAY) AT TIME ZONE 'America/New_York') AT TIME ZONE 'UTC' AS window_end FROM (SELECT *, "
        "date_trunc('day', (event_time AT TIME ZONE 'UTC') AT TIME ZONE 'America/New_York') AS day FROM t))",
}
(here / "expected").mkdir(exist_ok=True)
for path in sorted((here / "queries").glob("*.sql")):
    text = path.read_text()
    select = text.split("AS SELECT", 1)[1].rstrip().rstrip(";")
    for window, rows_of_windows in WINDOWS.items():
        for word in ("FROM", "JOIN"):
            select = select.replace(f"{word} {window}", f"{word} {rows_of_windows}")
    select = select.replace("'lookups/risk.csv'", f"read_csv('{here / 'queries/lookups/risk.csv'}', header = true)")
    select = "SELECT" + select.replace("approx_distinct(", "count(DISTINCT ").replace(
        "avg(amount)", "CAST(floor(sum(amount) * 1000000 / count(*)) / 1000000 AS DECIMAL(24, 6))"
    )
    table = con.execute(select)
    names = [d[0] for d in table.description]
    lines = [",".join(names)]
    for row in sorted(table.fetchall(), key=str):
        cells = []
        for value in row:
            if value is None:
                cells.append("")
            elif hasattr(value, "hour"):
                cells.append(value.strftime("%Y-%m-%dT%H:%M:%SZ"))
            elif isinstance(value, bool):
                cells.append(str(value).lower())
            else:
                cells.append(str(value))
        lines.append(",".join(cells))
    (here / "expected" / f"{path.stem}.csv").write_text("\n".join(lines) + "\n")
