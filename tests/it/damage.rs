//! A lake is damaged in many ways, one at a time, and the audit names each: its kind, its place, and nothing else.
//!
//! Damage is done so that only one check can see it: a changed slot gets its successors linked anew, a changed data file
//! its size and rows written into the log and the slot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, BooleanArray, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use serde_json::{Value, json};

use crate::support::{Scratch, text};
use crate::victim::Victim;

/// Rows a second of a file: pages of 400 rows, each more than an epoch may hold, so each is one.
const PACE: &str = "4000";
const EPOCH_ROWS_MAX: &str = "commit.rows_max=300";

/// Microseconds.
const DAY: i64 = 86_400_000_000;

/// One way to damage a lake.
struct Damage {
    name: &'static str,
    inflict: fn(&Victim),
    /// The kinds of findings, all of them.
    kinds: &'static [&'static str],
    /// What some finding of the first kind says, its place included.
    says: &'static [&'static str],
}

const DAMAGES: &[Damage] = &[
    Damage {
        name: "a slot's count changed",
        inflict: |lake| {
            lake.edit_slot(lake.epoch(3), |slot| add(read_counts(slot), "read", 1));
            lake.relink();
        },
        kinds: &["unbalanced_counts", "books_differ"],
        says: &["slot {3}, shard files/", "read"],
    },
    Damage {
        name: "a slot changed after it was decided",
        inflict: |lake| {
            lake.edit_slot(lake.epoch(3), |slot| add(slot, "written_at", 1));
        },
        kinds: &["broken_link", "books_differ"],
        says: &["slot {3+1}", "SHA-256"],
    },
    Damage {
        name: "a slot deleted",
        inflict: |lake| fs::remove_file(lake.slot_path(lake.epoch(3))).unwrap(),
        kinds: &["missing_slot", "rows_differ", "books_differ", "not_recomputed"],
        says: &["slot {3} missing"],
    },
    Damage {
        name: "a link broken",
        inflict: |lake| {
            let epoch = lake.epoch(3);
            lake.edit_slot(epoch, |slot| slot["previous_sha256"] = json!("00".repeat(32)));
            lake.relink_after(epoch);
        },
        kinds: &["broken_link"],
        says: &["slot {3}", "0000000000"],
    },
    Damage {
        name: "a gap between two slots",
        inflict: |lake| {
            lake.edit_slot(lake.epoch(3), |slot| {
                let from = &mut read_shard(slot)["from"]["after"];
                let offset: u64 = from.as_str().unwrap().parse().unwrap();
                *from = json!(format!("{:020}", offset + 1));
            });
            lake.relink();
        },
        kinds: &["position_gap", "books_differ"],
        says: &["slot {3}, shard files/", "had read up to"],
    },
    Damage {
        name: "a watermark that falls",
        inflict: |lake| {
            lake.edit_slot(lake.head(), |slot| {
                slot["watermark"] = json!(slot["watermark"].as_i64().unwrap() - 10 * DAY);
            });
            lake.relink();
        },
        kinds: &["watermark_fell", "books_differ"],
        says: &["slot {head}", "follows"],
    },
    Damage {
        name: "closed_until lowered by a little",
        inflict: |lake| lake.lower_closed_until(600_000_000),
        kinds: &["open_window"],
        says: &["table `city_minute`", "rows of windows that end after"],
    },
    Damage {
        name: "closed_until lowered below the slot before",
        inflict: |lake| lake.lower_closed_until(10 * DAY),
        kinds: &["closed_until_fell", "open_window"],
        says: &["slot {head}, query `city_minute`", "follows"],
    },
    Damage {
        name: "a data file deleted",
        inflict: |lake| fs::remove_file(lake.file("state_minute", 3)).unwrap(),
        kinds: &["missing_file", "not_recomputed"],
        says: &["`state_minute/event_date=", "not in the store"],
    },
    Damage {
        name: "a data file truncated",
        inflict: |lake| {
            let path = lake.file("category_hour", 0);
            let bytes = fs::read(&path).unwrap();
            fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
        },
        kinds: &["wrong_size", "not_recomputed"],
        says: &["`category_hour/event_date=", "bytes, its Add says"],
    },
    Damage {
        name: "a data file replaced by one with fewer rows",
        inflict: |lake| {
            let path = lake.file("epochs", 3);
            lake.write_parquet(&path, &lake.read_parquet(&path).slice(0, 0));
            lake.note_file("epochs", &path, None);
        },
        kinds: &["wrong_footer", "books_differ"],
        says: &["`epochs/commit_date=", "0 rows, its Add says 1"],
    },
    Damage {
        name: "a Delta commit doubled",
        inflict: |lake| {
            let newest = lake.newest_version("city_minute");
            fs::copy(lake.commit_path("city_minute", newest), lake.commit_path("city_minute", newest + 1)).unwrap();
        },
        kinds: &["doubled_commit"],
        says: &["`city_minute/_delta_log`, version", "again"],
    },
    Damage {
        name: "a Delta commit removed from the middle",
        inflict: |lake| fs::remove_file(lake.commit_path("state_minute", 2)).unwrap(),
        kinds: &["log_hole", "missing_commit", "unreadable_table", "not_recomputed"],
        says: &["`state_minute/_delta_log`, version 2"],
    },
    Damage {
        name: "the newest Delta commit removed",
        inflict: |lake| fs::remove_file(lake.commit_path("rejects", lake.newest_version("rejects"))).unwrap(),
        kinds: &["missing_commit", "rows_differ"],
        says: &["table `rejects`, epoch", "no commit of the log names it"],
    },
    Damage {
        name: "a foreign Delta commit",
        inflict: |lake| {
            let path = lake.file("fraud_alerts", 0);
            let foreign = path.with_file_name("part-00000-foreign.snappy.parquet");
            fs::copy(&path, &foreign).unwrap();
            let newest = lake.newest_version("fraud_alerts");
            let mut add = lake.add_of("fraud_alerts", &path);
            add["path"] = json!(lake.relative("fraud_alerts", &foreign));
            fs::write(lake.commit_path("fraud_alerts", newest + 1), format!("{}\n", json!({ "add": add }))).unwrap();
        },
        kinds: &["foreign_commit", "surplus_row"],
        says: &["`fraud_alerts/_delta_log`, version", "it names no epoch"],
    },
    Damage {
        name: "a commit that shows other files than were decided",
        inflict: |lake| {
            let path = lake.file("rejects", 0);
            let renamed = path.with_file_name("part-renamed.snappy.parquet");
            fs::rename(&path, &renamed).unwrap();
            let (old, new) = (lake.relative("rejects", &path), lake.relative("rejects", &renamed));
            lake.edit_commit_of("rejects", &path, |text| text.replace(&old, &new));
        },
        kinds: &["commit_differs"],
        says: &["`rejects/_delta_log`, version", "is not in"],
    },
    Damage {
        name: "an aggregate's amount changed by a cent",
        inflict: |lake| {
            lake.rewrite("city_minute", 3, |rows| {
                let amounts = column::<Decimal128Array>(rows, "amount");
                let changed = amounts.iter().enumerate().map(|(row, amount)| amount.map(|a| a + i128::from(row == 0)));
                let changed = changed.collect::<Decimal128Array>().with_data_type(amounts.data_type().clone());
                replaced(rows, "amount", Arc::new(changed))
            });
        },
        kinds: &["different_row"],
        says: &["table `city_minute`, window_start", "amount is", "recomputed"],
    },
    Damage {
        name: "an aggregate row removed",
        inflict: |lake| lake.rewrite("category_hour", 0, |rows| rows.slice(1, rows.num_rows() - 1)),
        kinds: &["missing_row"],
        says: &["table `category_hour`, window_start", "expected"],
    },
    Damage {
        name: "an alert removed",
        inflict: |lake| lake.rewrite("fraud_alerts", 0, |rows| rows.slice(1, rows.num_rows() - 1)),
        kinds: &["missing_row"],
        says: &["table `fraud_alerts`, event_time"],
    },
    Damage {
        name: "a transaction doubled",
        inflict: |lake| {
            lake.rewrite("transactions", 2, |rows| {
                concat_batches(&rows.schema(), [rows, &rows.slice(honest(rows), 1)]).unwrap()
            });
        },
        kinds: &["rows_differ", "duplicate_identity", "wrong_totals", "different_row"],
        says: &["`transactions`, epoch", "rows, the books say"],
    },
    Damage {
        name: "a late mark flipped",
        inflict: |lake| {
            lake.rewrite("transactions", 2, |rows| {
                let late = column::<BooleanArray>(rows, "_late");
                let flipped: BooleanArray =
                    late.iter().enumerate().map(|(row, l)| l.map(|l| l != (row == 0))).collect();
                replaced(rows, "_late", Arc::new(flipped))
            });
        },
        kinds: &["rows_differ", "wrong_late"],
        says: &["`transactions`, epoch", "marked late"],
    },
    Damage {
        name: "two late marks swapped",
        inflict: |lake| {
            let mixed = (0..lake.files("transactions").len()).find(|&file| {
                let late = column::<BooleanArray>(&lake.read_parquet(&lake.file("transactions", file)), "_late");
                late.true_count() > 0 && late.false_count() > 0
            });
            lake.rewrite("transactions", mixed.expect("a file with late rows and others"), |rows| {
                let late = column::<BooleanArray>(rows, "_late");
                let (on, off) = (position(&late, true), position(&late, false));
                let swapped: BooleanArray =
                    late.iter().enumerate().map(|(row, l)| l.map(|l| l != (row == on || row == off))).collect();
                replaced(rows, "_late", Arc::new(swapped))
            });
        },
        kinds: &["wrong_late"],
        says: &["`transactions`, epoch", "against the queries' closed windows"],
    },
    Damage {
        name: "a row moved to the epoch before",
        inflict: |lake| {
            lake.rewrite("transactions", 2, |rows| {
                let epochs = column::<Int64Array>(rows, "_epoch");
                let moved: Int64Array =
                    epochs.iter().enumerate().map(|(row, e)| e.map(|e| e - i64::from(row == 0))).collect();
                replaced(rows, "_epoch", Arc::new(moved))
            });
        },
        kinds: &["rows_differ", "sequence_outside"],
        says: &["`transactions`, epoch", "rows, the books say"],
    },
    Damage {
        name: "a reject dropped",
        inflict: |lake| lake.rewrite("rejects", 0, |rows| rows.slice(1, rows.num_rows() - 1)),
        kinds: &["rows_differ", "wrong_totals"],
        says: &["`rejects`, epoch", "rows, the books say"],
    },
    Damage {
        name: "the books tell another count",
        inflict: |lake| {
            lake.rewrite("epochs", 2, |rows| {
                let written = column::<Int64Array>(rows, "written");
                let less: Int64Array = written.iter().map(|n| n.map(|n| n - 1)).collect();
                replaced(rows, "written", Arc::new(less))
            });
        },
        kinds: &["books_differ"],
        says: &["`epochs`, epoch", "`written` is"],
    },
    Damage {
        name: "a card number in the clear",
        inflict: |lake| {
            lake.rewrite("transactions", 2, |rows| {
                let put = |name: &str, value: &'static str| {
                    let texts = column::<StringArray>(rows, name);
                    let texts = texts
                        .iter()
                        .enumerate()
                        .map(|(row, text)| if row == honest(rows) { Some(value) } else { text });
                    Arc::new(texts.collect::<StringArray>())
                };
                let tokens = put("card_token", "4111111111111111");
                replaced(&replaced(rows, "card_token", tokens), "street", put("street", "card 4111111111111111"))
            });
        },
        kinds: &["no_token", "card_number"],
        says: &["`transactions`, epoch", "`card_token` is no token"],
    },
];

/// Ways to damage a lake whose late rows were brought into their windows.
const RESTATED_DAMAGES: &[Damage] = &[
    Damage {
        name: "a restated file deleted",
        inflict: |lake| fs::remove_file(lake.table("city_minute").join(restated_adds(lake).swap_remove(0))).unwrap(),
        kinds: &["missing_file", "not_recomputed"],
        says: &["`city_minute/event_date=", "not in the store"],
    },
    Damage {
        name: "windows restated twice",
        inflict: |lake| {
            let path = lake.table("city_minute").join(restated_adds(lake).swap_remove(0));
            let rows = lake.read_parquet(&path);
            lake.write_parquet(&path, &concat_batches(&rows.schema(), [&rows, &rows]).unwrap());
            lake.note_file("city_minute", &path, Some(2 * rows.num_rows()));
        },
        kinds: &["surplus_row"],
        says: &["table `city_minute`, window_start"],
    },
    Damage {
        name: "a remove without a slot",
        inflict: |lake| {
            let remove = json!({"remove": {"path": restated_adds(lake).swap_remove(0), "dataChange": true}});
            let next = lake.newest_version("city_minute") + 1;
            fs::write(lake.commit_path("city_minute", next), format!("{remove}\n")).unwrap();
        },
        kinds: &["foreign_commit", "missing_row"],
        says: &["`city_minute/_delta_log`, version", "takes 1 out"],
    },
    Damage {
        name: "the slot of a restatement forgets the windows",
        inflict: |lake| {
            lake.edit_slot(restated_slot(lake), |slot| slot["restated"] = json!({}));
            lake.relink();
        },
        // Its late rows made rows of their own: without the restatement nothing accounts for them.
        kinds: &["wrong_restatement", "surplus_row"],
        says: &["table `city_minute`", "restates no window"],
    },
];

/// The slot that restated `city_minute`.
fn restated_slot(lake: &Victim) -> u64 {
    let removes = |epoch: &u64| lake.slot(*epoch)["tables"]["city_minute"]["removes"].is_array();
    lake.slots().into_iter().find(removes).expect("a slot that takes files out")
}

/// The files of that restatement.
fn restated_adds(lake: &Victim) -> Vec<String> {
    let slot = lake.slot(restated_slot(lake));
    let adds = slot["tables"]["city_minute"]["adds"].as_array().unwrap().clone();
    adds.iter().map(|add| add["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_damage_to_restated_windows_is_named_and_nothing_else() {
    let sound = scratch();
    let restated = Victim::copy_of(lake_with_everything(), sound);
    restated.scratch.must(&["lake", "reconcile"]);
    restated.scratch.must(&["audit"]);
    let misnamed = |damage| misnamed(&restated.scratch, damage);
    let wrong: Vec<String> = RESTATED_DAMAGES.iter().filter_map(misnamed).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), RESTATED_DAMAGES.len(), wrong.join("\n"));
}

#[test]
fn every_damage_is_named_and_nothing_else() {
    let sound = lake_with_everything();
    let wrong: Vec<String> = DAMAGES.iter().filter_map(|damage| misnamed(sound, damage)).collect();
    assert!(DAMAGES.len() >= 20 && wrong.is_empty(), "{} of {}:\n{}", wrong.len(), DAMAGES.len(), wrong.join("\n"));
}

/// Inflicts one damage on a copy of a sound lake; says what the audit gets wrong about it.
fn misnamed(sound: &Scratch, damage: &Damage) -> Option<String> {
    let victim = Victim::copy_of(sound, scratch());
    let (three, head) = (victim.epoch(3), victim.head());
    (damage.inflict)(&victim);
    let output = victim.scratch.run(&["audit", "--json"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let report = serde_json::from_str::<Value>(out.trim());
    let (Some(1), Ok(report)) = (output.status.code(), report) else {
        return Some(format!("{}: ended with {}: {out}{err}", damage.name, output.status));
    };
    let findings = report["findings"].as_array().unwrap();
    let lines: Vec<(&str, String)> = findings
        .iter()
        .map(|finding| {
            let [kind, place, what] = ["kind", "place", "what"].map(|field| finding[field].as_str().unwrap());
            (kind, format!("{kind}: {place}: {what}"))
        })
        .collect();
    let told = || lines.iter().map(|(_, line)| format!("  {line}")).collect::<Vec<_>>().join("\n");
    let found: BTreeSet<&str> = lines.iter().map(|(kind, _)| *kind).collect();
    let expected: BTreeSet<&str> = damage.kinds.iter().copied().collect();
    if found != expected {
        return Some(format!("{}: found {found:?}, expected {expected:?}\n{}", damage.name, told()));
    }
    let filled = |text: &&str| {
        let text = text.replace("{3+1}", &(three + 1).to_string()).replace("{3}", &three.to_string());
        text.replace("{head}", &head.to_string())
    };
    let says: Vec<String> = damage.says.iter().map(filled).collect();
    let mut of_kind = lines.iter().filter(|(kind, _)| *kind == damage.kinds[0]);
    let named = of_kind.any(|(_, line)| says.iter().all(|part| line.contains(part)));
    (!named).then(|| format!("{}: no finding says {says:?}\n{}", damage.name, told()))
}

#[test]
fn a_report_tells_the_books_and_each_finding_on_one_line() {
    let victim = Victim::copy_of(lake_with_everything(), scratch());
    let clean = victim.scratch.must(&["audit"]);
    for part in ["files ", "transactions ", "city_minute ", "closed until", "clean: nothing differs"] {
        assert!(clean.contains(part), "no `{part}` in\n{clean}");
    }
    victim.rewrite("city_minute", 1, |rows| rows.slice(1, rows.num_rows() - 1));
    let output = victim.scratch.run(&["audit"]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let line = told
        .lines()
        .find(|line| line.starts_with("invariant 7: missing row in table `city_minute`"))
        .unwrap_or_else(|| panic!("{told}"));
    assert!(line.contains("window_start 20") && line.contains("lakeward batch"), "{line}");
    assert!(told.trim_end().ends_with("1 difference"), "{told}");
}

/// A query that was edited, one that came later and one that went away: what can be compared is, and the rest is said.
#[test]
fn edited_new_and_removed_queries_are_followed() {
    let mut scratch = Scratch::new().set(EPOCH_ROWS_MAX);
    let queries = scratch.path("queries");
    fs::create_dir(&queries).unwrap();
    scratch = scratch.set(&format!("queries.dir={}", queries.display()));
    let write = |name: &str, select: &str| {
        fs::write(queries.join(format!("{name}.sql")), format!("CREATE MATERIALIZED VIEW {name} AS {select}")).unwrap();
    };
    let minutes = |size: &str, having: &str| {
        format!(
            "SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, state, count(*) AS n, \
             avg(latitude) AS latitude FROM TUMBLE(transactions, event_time, INTERVAL '{size}') \
             GROUP BY window_start, window_end, state {having}"
        )
    };
    let parts = scratch.parts(&scratch.simulated("all.csv", 3_000), 3);
    let run = |part: usize| scratch.summary(&["--source", parts[part].to_str().unwrap(), "--pace", PACE]);
    write("edited", &minutes("10 minutes", ""));
    write("removed", &minutes("1 minute", ""));
    write("alerts", "SELECT event_time, event_date, transaction_id, amount FROM transactions WHERE amount > 100");
    run(0);
    scratch.must(&["audit"]);
    write("edited", &minutes("1 hour", "HAVING count(*) > 1"));
    write("added", &minutes("15 minutes", ""));
    fs::remove_file(queries.join("removed.sql")).unwrap();
    let diff: Value = serde_json::from_str(&scratch.must(&["diff", "--json"])).unwrap();
    let kinds = diff["queries"].as_array().unwrap().iter().map(|query| (&query["query"], &query["change"]));
    let kinds: BTreeMap<_, _> = kinds.map(|(query, kind)| (query.as_str().unwrap(), kind.as_str().unwrap())).collect();
    let expected = [("added", "new"), ("alerts", "kept"), ("edited", "changed"), ("removed", "removed")];
    assert_eq!(kinds, BTreeMap::from(expected));
    let started = scratch.run(&["run", "--source", parts[1].to_str().unwrap(), "--pace", PACE, "--until-caught-up"]);
    let said = text(&started.stderr);
    assert!(started.status.success(), "{said}");
    let greeting = "queries kept: alerts\nqueries new: added\nqueries changed: edited\nqueries removed: removed\n";
    assert!(said.contains(greeting), "{said}");
    let report = scratch.must(&["audit"]);
    assert!(
        report.contains("`edited`: windows closed until") && report.contains("the query `removed` is not in"),
        "{report}"
    );
    // Back again: its windows go on where they had stopped.
    write("removed", &minutes("1 minute", ""));
    fs::remove_file(queries.join("alerts.sql")).unwrap();
    run(2);
    let report = scratch.must(&["audit"]);
    assert!(!report.contains("the query `removed`"), "{report}");
}

/// A lake with several epochs, two sources' files, rejects, duplicates, late rows and alerts; audited clean.
fn lake_with_everything() -> &'static Scratch {
    static LAKE: OnceLock<Scratch> = OnceLock::new();
    LAKE.get_or_init(|| {
        let scratch = scratch();
        let file = scratch.simulated("all.csv", 6_000);
        let all = fs::read_to_string(&file).unwrap();
        let (header, rows) = all.split_once("\r\n").unwrap();
        let mut lines: Vec<String> = rows.lines().map(str::to_owned).collect();
        // Broken and repeated records in the middle of the first file.
        lines[2_500] = "no,transaction,at,all".into();
        lines[2_501] = lines[2_501].replace("-", "x");
        lines[2_600] = lines[2_599].clone();
        let write = |name: &str, part: &[String]| -> PathBuf {
            let path = scratch.path(name);
            fs::write(&path, format!("{header}\r\n{}\r\n", part.join("\r\n"))).unwrap();
            path
        };
        let middle = write("middle.csv", &lines[2_000..4_000]);
        // The last file starts with old rows: late ones beside rows on time in one epoch.
        let mixed: Vec<String> =
            lines[4_000..].iter().take(20).chain(&lines[..200]).chain(&lines[4_020..]).cloned().collect();
        let last = write("last.csv", &mixed);
        let first = scratch.summary(&["--source", middle.to_str().unwrap(), "--pace", PACE]);
        assert!(first["rejected"].as_u64().unwrap() >= 2 && first["duplicates"] == 1, "{first}");
        let second = scratch.summary(&["--source", last.to_str().unwrap(), "--pace", PACE]);
        assert!(second["late"].as_u64().unwrap() >= 200, "{second}");
        assert!(first["epochs"].as_u64().unwrap() > 4 && second["epochs"].as_u64().unwrap() > 2, "{first} {second}");
        scratch.must(&["audit"]);
        scratch
    })
}

fn scratch() -> Scratch {
    let scratch = Scratch::new().set(EPOCH_ROWS_MAX).set("watermark.out_of_orderness=10s");
    // Queries of short windows: the end of the first file must not close what the second one's rows belong to.
    let queries = scratch.path("queries");
    fs::create_dir_all(&queries).unwrap();
    for query in ["city_minute", "state_minute", "category_hour", "fraud_alerts"] {
        let file = format!("{query}.sql");
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("queries").join(&file), queries.join(&file)).unwrap();
    }
    scratch.set(&format!("queries.dir={}", queries.display()))
}

impl Scratch {
    /// Cuts a file of the data set's format into so many files of equal length, in order.
    pub fn parts(&self, file: &Path, parts: usize) -> Vec<PathBuf> {
        let all = fs::read_to_string(file).unwrap();
        let (header, rows) = all.split_once("\r\n").unwrap();
        let lines: Vec<&str> = rows.lines().collect();
        let cut = lines.chunks(lines.len().div_ceil(parts)).enumerate().map(|(n, part)| {
            let path = self.path(&format!("part-{n}.csv"));
            fs::write(&path, format!("{header}\r\n{}\r\n", part.join("\r\n"))).unwrap();
            path
        });
        cut.collect()
    }
}

/// The shard an epoch's slot read.
fn read_shard(slot: &mut Value) -> &mut Value {
    let shards = slot["sources"]["files"]["shards"].as_object_mut().unwrap();
    shards.values_mut().find(|shard| shard["counts"]["read"].as_u64() > Some(0)).expect("a shard that was read")
}

fn read_counts(slot: &mut Value) -> &mut Value {
    &mut read_shard(slot)["counts"]
}

fn add(object: &mut Value, field: &str, more: u64) {
    object[field] = json!(object[field].as_u64().unwrap() + more);
}

fn column<T: Array + Clone + 'static>(rows: &RecordBatch, name: &str) -> T {
    rows.column_by_name(name).unwrap().as_any().downcast_ref::<T>().unwrap().clone()
}

fn position(values: &BooleanArray, wanted: bool) -> usize {
    values.iter().position(|value| value == Some(wanted)).unwrap()
}

/// A transaction that raised no alert.
fn honest(rows: &RecordBatch) -> usize {
    position(&column::<BooleanArray>(rows, "is_fraud"), false)
}

fn replaced(rows: &RecordBatch, name: &str, values: ArrayRef) -> RecordBatch {
    let mut columns = rows.columns().to_vec();
    columns[rows.schema().index_of(name).unwrap()] = values;
    RecordBatch::try_new(rows.schema(), columns).unwrap()
}
