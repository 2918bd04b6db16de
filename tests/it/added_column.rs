//! A field comes to the stream: a column is added to its contract, and everything goes on – duplicates, open windows, late
//! rows, manifests, export, compaction, the audit –, with NULL in the rows from before in every reader.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::events::{CONTRACT, Event};
use crate::plain::{first_and_late, site, write};
use crate::readers::{agreed, newest};
use crate::support::{Scratch, duckdb, text};

const LAST: &str = "_late BOOLEAN NOT NULL\n";

/// The contract with more columns behind its last one.
fn widen(scratch: &Scratch, columns: &str) {
    assert!(CONTRACT.contains(LAST));
    let contract = CONTRACT.replace(LAST, &format!("_late BOOLEAN NOT NULL,\n  {columns}\n"));
    fs::write(scratch.path("contracts").join("events.sql"), contract).unwrap();
}

/// The same events with one more field.
fn with_channel(events: &[Event]) -> Vec<Event> {
    let channel = |number: usize| if number.is_multiple_of(2) { "web" } else { "shop" };
    let more = events.iter().enumerate().map(|(number, event)| {
        let json = event.json.strip_suffix('}').unwrap();
        Event { at_us: event.at_us, json: format!("{json},\"channel\":\"{}\"}}", channel(number)) }
    });
    more.collect()
}

/// Every table at its newest version, which is named: at none chDB reads by code of its own, which refuses a table whose
/// columns have changed.
fn all(scratch: &Scratch) -> Vec<(String, Option<u64>)> {
    newest(&scratch.lake()).into_iter().map(|(table, version)| (table, Some(version))).collect()
}

fn findings(scratch: &Scratch) -> Vec<Value> {
    let report: Value = serde_json::from_str(&scratch.must(&["lake", "check", "--json"])).unwrap();
    report.as_object().unwrap().values().flat_map(|linted| linted["findings"].as_array().unwrap().clone()).collect()
}

#[test]
fn a_field_comes_to_the_stream_and_every_reader_sees_null_before() {
    let scratch = site(Scratch::new(), &["reconcile.enabled=false"]);
    let (events, late) = first_and_late(31, 900);
    let (before, after) = events.split_at(events.len() / 2);
    let file = write(&scratch, "before.ndjson", before);
    scratch.summary(&["--source", file.to_str().unwrap(), "--pace", "4000"]);

    // What a start would refuse, and how it is put.
    let run = ["run", "--source", file.to_str().unwrap(), "--until-caught-up"];
    for (columns, from, says) in [
        ("channel STRING NOT NULL COMMENT 'c'", LAST, "column `channel` STRING is missing in the lake"),
        ("channel STRING COMMENT 'c',\n  note ", "note ", "put it behind the last column, `_late`"),
    ] {
        match from {
            LAST => widen(&scratch, columns),
            part => {
                fs::write(scratch.path("contracts").join("events.sql"), CONTRACT.replacen(part, columns, 1)).unwrap();
            }
        }
        let output = scratch.run(&run);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    widen(&scratch, "channel STRING COMMENT 'where it was bought'");
    let diff: Value = serde_json::from_str(&scratch.must(&["diff", "--json"])).unwrap();
    let of = |table: &str| diff["tables"].as_array().unwrap().iter().find(|t| t["table"] == table).unwrap().clone();
    assert_eq!(of("events")["change"], json!({"added": ["channel"]}), "{diff}");
    // No query reads it yet: each goes on.
    assert!(diff["queries"].as_array().unwrap().iter().all(|query| query["change"] == "kept"), "{diff}");

    // Sent again with the field they may have had all along, and sent as they were: duplicates, all of them.
    let again = write(&scratch, "again.ndjson", &[&with_channel(&before[..40])[..], &before[40..60]].concat());
    let file = write(&scratch, "after.ndjson", &with_channel(after));
    let sources = [again.to_str().unwrap(), file.to_str().unwrap()];
    let summary = scratch.summary(&["--source", sources[0], sources[1], "--pace", "4000", "--allow-late"]);
    assert_eq!((&summary["duplicates"], &summary["rejected"]), (&60.into(), &0.into()), "{summary}");
    scratch.must(&["audit"]);
    let rows = duckdb(&format!("SELECT count(*), count(channel) FROM {}", scratch.delta("events")));
    assert_eq!(rows[0], [json!(events.len()), json!(after.len())]);
    agreed(&scratch.lake(), "with an added column", &all(&scratch));
    assert_eq!(findings(&scratch), Vec::<Value>::new());

    // Contradictions are still found; a query of the new column begins; late rows come; small files of both kinds become one.
    let query = "CREATE MATERIALIZED VIEW channels AS SELECT window_start, window_end, CAST(window_start AS DATE) AS \
                 event_date, channel, count(*) AS n FROM TUMBLE(events, at, INTERVAL '1 hour') GROUP BY window_start, \
                 window_end, channel";
    fs::write(scratch.path("queries").join("channels.sql"), query).unwrap();
    let mut odd = with_channel(&after[..1]);
    odd[0].json = odd[0].json.replace("\"web\"", "\"mail\"");
    let file = write(&scratch, "late.ndjson", &[&with_channel(&late)[..], &odd].concat());
    let summary = scratch.summary(&["--source", file.to_str().unwrap(), "--allow-late", "--backfill"]);
    assert_eq!((&summary["written"], &summary["rejected"]), (&late.len().into(), &1.into()), "{summary}");
    scratch.must(&["lake", "reconcile"]);
    scratch.must(&["lake", "compact"]);
    scratch.must(&["audit"]);
    agreed(&scratch.lake(), "after late rows and a compaction", &all(&scratch));
    assert_eq!(findings(&scratch), Vec::<Value>::new());
    let (events_now, channels) = (scratch.delta("events"), scratch.delta("channels"));
    let wanted =
        format!("SELECT epoch_us(date_trunc('hour', \"at\")), channel, count(*) FROM {events_now} GROUP BY ALL");
    let found = format!("SELECT epoch_us(window_start), channel, n FROM {channels}");
    assert_eq!(crate::oracle::differences(&wanted, &found), 0);

    // What Spectrum and readers of the export see, file by file: the older ones lack the column.
    let folder = scratch.lake().join("events/_symlink_format_manifest");
    let manifests = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let named: BTreeSet<String> = manifests
        .flat_map(|partition| {
            let text = fs::read_to_string(partition.join("manifest")).unwrap();
            text.lines().map(|line| format!("'{}'", line.strip_prefix("file://").unwrap())).collect::<Vec<_>>()
        })
        .collect();
    let named = named.into_iter().collect::<Vec<_>>().join(", ");
    let counted = |files: &str| {
        duckdb(&format!("SELECT count(*), count(channel) FROM read_parquet({files}, union_by_name = true)"))[0].clone()
    };
    let total = [json!(events.len() + late.len()), json!(after.len() + late.len())];
    assert_eq!(counted(&format!("[{named}]")), total);
    scratch.must(&["lake", "export"]);
    let over = duckdb(&format!(
        "SELECT count(*), count(channel) FROM {events_now} WHERE day < (SELECT max(day) FROM {events_now})"
    ));
    assert_eq!(counted(&format!("'{}'", scratch.path("plain/events/*/*.parquet").display())), over[0]);
    let site = [
        "--location",
        "s3://bucket/lake",
        "--plain-location",
        "s3://bucket/plain",
        "--iam-role",
        "arn:aws:iam::1:role/r",
    ];
    for dialect in ["athena", "spectrum", "redshift", "duckdb", "glue", "spark"] {
        let script = scratch.must(&[&["lake", "ddl", dialect], &site[..]].concat());
        // Spark reads the columns from the log.
        assert!(dialect == "spark" || script.contains("channel"), "{dialect} is not told of the column");
    }
}
