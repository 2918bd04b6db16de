//! The Glue catalog over the wire, before a real server: what is registered, across pages, throttling, lost answers and
//! outages; and that the stream does not notice.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use lakeward::catalog::{Catalog, Lag, Synced};
use lakeward::config::Config;
use lakeward::contract::{Sink, TableContract, read_folder};
use lakeward::lake::Lake;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::events::{CONTRACT, SECOND_US, events};
use crate::moto::{Lead, Mood, Moto, Proxy};
use crate::plain;
use crate::support::{Scratch, interrupt, text, wait_for};

fn contract() -> TableContract {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ddl/lake");
    read_folder(&folder).unwrap().remove("every_type").unwrap()
}

fn dates(from: usize, to: usize) -> BTreeSet<String> {
    (from..to).map(|n| format!("2026-{:02}-{:02}", n / 28 + 1, n % 28 + 1)).collect()
}

/// A catalog as a process that has just started has it.
async fn catalog(folder: &Path, url: &str) -> Catalog {
    let settings = ["catalog.glue=true".to_owned(), format!("catalog.endpoint={url}")];
    let config = Config::load(None, &settings).unwrap();
    let lake = Lake::open(folder.to_str().unwrap(), &config.s3).unwrap();
    Catalog::of(&config.catalog, &lake).await.unwrap().unwrap()
}

fn table(moto: &Moto, name: &str) -> Value {
    moto.must("GetTable", &json!({"DatabaseName": "lake", "Name": name}))["Table"].clone()
}

fn names(columns: &Value) -> Vec<&str> {
    columns.as_array().unwrap().iter().map(|column| column["Name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_and_with_lost_answers_everything_is_registered_once_page_by_page() {
    let (moto, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    let proxy = Proxy::start(&moto, Mood::Bad, 40);
    let contract = contract();
    let fresh = catalog(folder.path(), &proxy.url).await;
    let all = dates(0, 230);
    assert_eq!(fresh.sync(&contract, &all).await.unwrap(), Synced { tables: 2, registered: 230, dropped: 0 });
    assert!(proxy.faults() > 3, "only {} faults", proxy.faults());
    proxy.be(Mood::Good);
    let calls = proxy.calls();
    assert!(calls["BatchCreatePartition"] >= 3, "at most 100 a call: {calls:?}");

    let native = table(&moto, "every_type");
    let location = native["StorageDescriptor"]["Location"].as_str().unwrap();
    assert!(location.starts_with("file://") && location.ends_with("/every_type/"), "{location}");
    assert_eq!(native["Parameters"]["spark.sql.sources.provider"], "delta");
    assert_eq!(native["StorageDescriptor"]["SerdeInfo"]["Parameters"]["path"], location);
    assert_eq!(native["PartitionKeys"], json!([]));
    let columns: Vec<&str> = contract.columns.iter().map(|column| column.name.as_ref()).collect();
    assert_eq!(names(&native["StorageDescriptor"]["Columns"]), columns);
    let spectrum = table(&moto, "every_type_spectrum");
    assert_eq!(names(&spectrum["PartitionKeys"]), ["day"]);
    let partitions = moto.partitions("lake", "every_type_spectrum");
    assert_eq!(partitions.keys().cloned().collect::<BTreeSet<_>>(), all);
    for (date, (place, columns)) in &partitions {
        assert_eq!(*place, format!("{location}_symlink_format_manifest/day={date}/"));
        assert_eq!(*columns, names(&spectrum["StorageDescriptor"]["Columns"]));
    }
    // The same again: nothing is sent. Another process looks, page by page, and sends nothing either.
    assert_eq!(fresh.sync(&contract, &all).await.unwrap(), Synced::default());
    assert!(proxy.calls().is_empty());
    let other = catalog(folder.path(), &proxy.url).await;
    assert_eq!(other.sync(&contract, &all).await.unwrap(), Synced::default());
    let calls = proxy.calls();
    assert_eq!(calls["GetPartitions"], 6, "230 in pages of 40: {calls:?}");
    assert!(!calls.keys().any(|call| call.contains("Create") || call.contains("Update")), "{calls:?}");
    // Emptied partitions are dropped, at most 25 a call, and new ones come, while calls fail.
    proxy.be(Mood::Bad);
    let later = dates(60, 240);
    assert_eq!(other.lag(&contract, &later).await.unwrap(), Lag { tables: 0, unregistered: 10, emptied: 60 });
    let synced = other.sync(&contract, &later).await.unwrap();
    assert_eq!(synced, Synced { tables: 0, registered: 10, dropped: 60 });
    assert_eq!(moto.partitions("lake", "every_type_spectrum").into_keys().collect::<BTreeSet<_>>(), later);
    assert!(proxy.calls()["BatchDeletePartition"] >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_contract_reaches_tables_and_partitions_and_what_others_added_stays() {
    let (moto, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    let url = format!("http://{}", moto.address);
    let mut contract = contract();
    let some = dates(0, 120);
    catalog(folder.path(), &url).await.sync(&contract, &some).await.unwrap();
    // Athena keeps things in a table's parameters; somebody has moved a partition, and registered one by hand.
    let mut input = table(&moto, "every_type");
    let input = input.as_object_mut().unwrap();
    input.retain(|key, _| {
        ["Name", "TableType", "Parameters", "PartitionKeys", "StorageDescriptor", "Description"].contains(&key.as_str())
    });
    input["Parameters"]["delta.lastUpdateVersion"] = "7".into();
    moto.must("UpdateTable", &json!({"DatabaseName": "lake", "TableInput": input}));
    let elsewhere = json!({"Values": ["2026-01-01"], "StorageDescriptor": {"Columns": [], "Location": "s3://else/"}});
    let entry = json!({"PartitionValueList": ["2026-01-01"], "PartitionInput": elsewhere});
    let in_table = json!({"DatabaseName": "lake", "TableName": "every_type_spectrum"});
    let with = |key: &str, value: Value| {
        let mut input = in_table.clone();
        input[key] = value;
        input
    };
    moto.must("BatchUpdatePartition", &with("Entries", json!([entry])));
    let stray = json!({"Values": ["1999-01-01"], "StorageDescriptor": {"Columns": [], "Location": "s3://else/"}});
    moto.must("BatchCreatePartition", &with("PartitionInputList", json!([stray])));
    let again = catalog(folder.path(), &url).await;
    assert_eq!(again.lag(&contract, &some).await.unwrap(), Lag { tables: 0, unregistered: 1, emptied: 1 });
    let synced = again.sync(&contract, &some).await.unwrap();
    assert_eq!(synced, Synced { tables: 0, registered: 1, dropped: 1 });

    let mut added = contract.columns[1].clone();
    added.name = "added_later".into();
    contract.columns.push(added);
    let synced = catalog(folder.path(), &url).await.sync(&contract, &some).await.unwrap();
    assert_eq!(synced, Synced { tables: 2, registered: 120, dropped: 0 });
    let native = table(&moto, "every_type");
    assert_eq!(native["Parameters"]["delta.lastUpdateVersion"], "7");
    assert_eq!(names(&native["StorageDescriptor"]["Columns"]).last(), Some(&"added_later"));
    for (date, (place, columns)) in moto.partitions("lake", "every_type_spectrum") {
        assert!(place.ends_with(&format!("/day={date}/")), "{place}");
        assert_eq!(columns.last().map(String::as_str), Some("added_later"), "{date}");
    }
    // Without the sink there is the native table alone.
    contract.sinks = vec![Sink::Delta];
    contract.name = "other".into();
    let synced = catalog(folder.path(), &url).await.sync(&contract, &BTreeSet::new()).await.unwrap();
    assert_eq!(synced.tables, 1);
    assert_ne!(moto.glue("GetTable", &json!({"DatabaseName": "lake", "Name": "other_spectrum"})).0, 200);
}

/// A small job: every page an epoch.
fn job(proxy: &Proxy) -> Scratch {
    let settings = ["commit.rows_max=300", "commit.interval=1h", "reconcile.enabled=false", "simulate.cards=40"];
    let scratch = settings.iter().fold(Scratch::new(), |scratch, setting| scratch.set(setting));
    let queries = scratch.path("queries");
    fs::create_dir_all(&queries).unwrap();
    let city = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries/city_minute.sql");
    fs::copy(city, queries.join("city_minute.sql")).unwrap();
    let scratch = scratch.set(&format!("queries.dir={}", queries.display()));
    scratch.set("catalog.glue=true").set(&format!("catalog.endpoint={}", proxy.url))
}

fn versions(scratch: &Scratch) -> usize {
    let Ok(log) = fs::read_dir(scratch.lake().join("transactions/_delta_log")) else { return 0 };
    log.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "json")).count()
}

#[test]
fn a_catalog_that_never_answers_neither_stops_nor_slows_the_stream_and_a_later_start_catches_up() {
    let moto = Moto::start();
    let proxy = Proxy::start(&moto, Mood::Silent, 100);
    let scratch = job(&proxy);
    let file = scratch.simulated("in.csv", 3_000);
    let args = ["run", "--source", file.to_str().unwrap(), "--pace", "4000", "--until-caught-up"];
    let mut running = scratch.spawn("job", &args);
    // Epoch after epoch is published while the first call waits for its answer.
    let published = || proxy.count() > 0 && versions(&scratch) >= 6;
    assert!(wait_for(&mut running, published), "{}", fs::read_to_string(scratch.path("job.err")).unwrap());
    assert!(proxy.calls().is_empty() && running.try_wait().unwrap().is_none(), "something was answered, or it ended");
    let ended = running.wait().unwrap();
    let said = fs::read_to_string(scratch.path("job.err")).unwrap();
    assert!(ended.success(), "{said}");
    assert!(said.contains("not up to date yet; the next start goes on"), "{said}");
    scratch.must(&["audit"]);
    // Manifests wait for no catalog.
    let check = scratch.must(&["lake", "check", "--json"]);
    assert!(!check.contains("\"manifest\""), "{check}");

    proxy.be(Mood::Good);
    // Nothing new to read: the start itself brings the catalog up.
    scratch.must(&args);
    for table in ["transactions", "city_minute", "rejects", "epochs"] {
        let registered = moto.partitions("lake", &format!("{table}_spectrum"));
        let folders = fs::read_dir(scratch.lake().join(table).join("_symlink_format_manifest")).unwrap();
        let folders = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let dates: BTreeSet<String> = folders.filter_map(|f| Some(f.split_once('=')?.1.to_owned())).collect();
        assert_eq!(registered.into_keys().collect::<BTreeSet<_>>(), dates, "{table}");
    }
    let by_hand: Value = serde_json::from_str(&scratch.must(&["lake", "manifest", "--json"])).unwrap();
    assert_eq!(by_hand["transactions"]["catalog"], json!({"tables": 0, "registered": 0, "dropped": 0}), "{by_hand}");
}

#[test]
fn who_stops_a_job_does_not_wait_for_a_catalog() {
    let moto = Moto::start();
    let proxy = Proxy::start(&moto, Mood::Silent, 100);
    let scratch = job(&proxy);
    let file = scratch.simulated("in.csv", 3_000);
    let mut running = scratch.spawn("job", &["run", "--source", file.to_str().unwrap(), "--pace", "100"]);
    let asked = || proxy.count() > 0 && versions(&scratch) >= 1;
    assert!(wait_for(&mut running, asked), "{}", fs::read_to_string(scratch.path("job.err")).unwrap());
    let begun = Instant::now();
    interrupt(&running);
    running.wait().unwrap();
    // A job whose input has ended waits for twenty. Loaded machines are slow, too.
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    let said = fs::read_to_string(scratch.path("job.err")).unwrap();
    assert!(said.contains("not up to date yet; the next start goes on"), "{said}");
    scratch.must(&["audit"]);
}

/// The order is data, log, manifest, catalog, and backwards where a date leaves.
#[test]
fn a_partition_is_registered_after_its_manifest_is_there_and_dropped_before_it_goes() {
    let moto = Moto::start();
    let proxy = Proxy::start(&moto, Mood::Good, 100);
    let endpoint = format!("catalog.endpoint={}", proxy.url);
    let scratch =
        plain::site(Scratch::new(), &["maintenance.interval=50ms", "plain.url=", "catalog.glue=true", &endpoint]);
    let keeping = CONTRACT.replace("sort_by = 'at'", "sort_by = 'at', keep = '1d'");
    fs::write(scratch.path("contracts/events.sql"), keeping).unwrap();
    let days = events(&mut ChaCha8Rng::seed_from_u64(5), 2_000, 8 * 86_400 * SECOND_US);
    let file = plain::write(&scratch, "in.ndjson", &days);
    let mut running = scratch.spawn("job", &["run", "--source", file.to_str().unwrap(), "--pace", "250"]);
    let has_left = |lead: &Lead| lead.call == "BatchDeletePartition" && !lead.manifest.is_file();
    let happened = wait_for(&mut running, || proxy.leads().iter().any(has_left));
    interrupt(&running);
    running.wait().unwrap();
    let said = fs::read_to_string(scratch.path("job.err")).unwrap();
    assert!(happened, "no date has left while the job ran: {said}");
    // What the job had no time for is done in the same order by hand.
    scratch.must(&["lake", "expire"]);
    let leads = proxy.leads();
    let astray: Vec<&Lead> = leads.iter().filter(|lead| !lead.is_there).collect();
    assert!(astray.is_empty(), "the catalog led to nothing: {astray:?}");
    let (dropped, registered): (Vec<_>, Vec<_>) = leads.iter().partition(|lead| lead.call == "BatchDeletePartition");
    let dropped: BTreeSet<&Path> = dropped.iter().map(|lead| lead.manifest.as_path()).collect();
    assert!(dropped.iter().all(|manifest| !manifest.exists()), "emptied manifests stay: {dropped:?}");
    assert!(registered.iter().all(|lead| dropped.contains(&*lead.manifest) || lead.manifest.exists()));
    scratch.must(&["audit"]);
}

#[test]
fn check_live_asks_the_catalog_and_makes_nothing() {
    let moto = Moto::start();
    let proxy = Proxy::start(&moto, Mood::Good, 100);
    let scratch = job(&proxy);
    fs::create_dir(scratch.lake()).unwrap();
    // There is no database yet: looking for it is allowed all the same.
    let told = scratch.must(&["check", "--live"]);
    assert!(told.contains("ok         glue:GetDatabase on the catalog and its database `lake`"), "{told}");
    assert_eq!(proxy.calls().into_keys().collect::<Vec<_>>(), ["GetDatabase"]);
    moto.must("CreateDatabase", &json!({"DatabaseInput": {"Name": "lake"}}));
    scratch.must(&["check", "--live"]);

    proxy.be(Mood::Denying);
    let output = scratch.run(&["check", "--live", "--json"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found[0]["action"], &found[0]["answer"]), (&"glue:GetDatabase".into(), &"refused".into()), "{found}");
    assert!(found[0]["says"].as_str().unwrap().contains("allow `glue:GetDatabase` on the catalog"), "{found}");
    assert_eq!(fs::read_dir(scratch.lake()).unwrap().count(), 0);
}

#[test]
fn a_catalog_that_cannot_work_is_refused_at_the_start() {
    let scratch = Scratch::new().set("catalog.glue=true");
    let output = scratch.run(&["run", "--source", "tests/data/back_jump_2019-02-28.csv.gz"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("put the lake on S3"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_table_is_let_go_with_its_partitions_while_calls_fail() {
    let (moto, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    let proxy = Proxy::start(&moto, Mood::Bad, 40);
    let (contract, some) = (contract(), dates(0, 30));
    let catalog = catalog(folder.path(), &proxy.url).await;
    assert_eq!(catalog.let_go("every_type").await.unwrap(), 0, "the database is not there yet");
    catalog.sync(&contract, &some).await.unwrap();
    // An answer may be lost, and then the table is gone already.
    assert!(catalog.let_go("every_type").await.unwrap() <= 2);
    for table in ["every_type", "every_type_spectrum"] {
        assert_ne!(moto.glue("GetTable", &json!({"DatabaseName": "lake", "Name": table})).0, 200, "{table}");
    }
    // One of that name that comes later is made anew.
    assert_eq!(catalog.sync(&contract, &some).await.unwrap(), Synced { tables: 2, registered: 30, dropped: 0 });
}
