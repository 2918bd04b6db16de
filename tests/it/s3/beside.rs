//! Beside a job in a bucket: commands by hand, which no lock stops; and the plain export, within a bucket and out of it.

use std::fs;

use serde_json::Value;

use super::bucket::Bucket;
use super::{PACE, str, with_queries};
use crate::plain::{assert_exported, first_and_late, site, write};
use crate::support::{text, wait_for};

#[test]
fn a_command_by_hand_does_not_stop_a_job_by_mistake() {
    let bucket = Bucket::new("beside");
    let scratch = with_queries(bucket.scratch()).set("commit.interval=1s");
    let file = scratch.simulated("day.csv", 4_000);
    // A job that has ended in order leaves the lake to others at once, and they to each other.
    scratch.summary(&["--source", str(&scratch.simulated("first.csv", 500)), "--allow-late"]);
    for command in ["compact", "reconcile", "manifest", "compact"] {
        scratch.must(&["lake", command]);
    }
    let before = bucket.slots();
    let mut job =
        scratch.spawn("job", &["run", "--source", str(&file), "--pace", "50", "--until-caught-up", "--allow-late"]);
    assert!(wait_for(&mut job, || bucket.slots() > before + 2));
    for command in [&["lake", "compact"][..], &["lake", "reconcile"], &["lake", "manifest"]] {
        let output = scratch.run(command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(75), "{command:?}: {said}");
        assert!(said.contains("s ago (slot ") && said.contains("--beside-a-job"), "{said}");
    }
    // What only reads, or may run beside a job, does.
    for command in ["status", "checkpoint", "vacuum"] {
        scratch.must(&["lake", command]);
    }
    assert!(job.try_wait().unwrap().is_none(), "the job was stopped");
    job.kill().unwrap();
    job.wait().unwrap();
    // It has not ended in order; who knows better says so.
    assert_eq!(scratch.run(&["lake", "compact"]).status.code(), Some(75));
    scratch.must(&["lake", "compact", "--beside-a-job"]);
    scratch.must(&["lake", "manifest"]);
}

#[test]
fn an_export_is_copied_within_a_bucket_and_carried_out_of_it() {
    let bucket = Bucket::new("plain");
    let within = "s3://plain/some/plain";
    let scratch = site(bucket.scratch(), &["commit.rows_max=300"]);
    let (first, _) = first_and_late(5, 900);
    let first = write(&scratch, "first.ndjson", &first);
    scratch.summary(&["--source", str(&first), "--pace", PACE, "--set", &format!("plain.url={within}")]);
    let keys = |prefix: &str| -> Vec<String> {
        let (_, listed) = bucket.proxy.ask("GET", &format!("/{}?list-type=2&prefix={prefix}", bucket.name));
        listed.split("<Key>").skip(1).map(|key| key.split('<').next().unwrap().to_owned()).collect()
    };
    let copies = keys("some/plain/");
    assert!(copies.len() > 6, "{copies:?}");
    assert!(copies.iter().all(|key| key.contains("/epoch-") && key.ends_with(".parquet")), "{copies:?}");
    let said: Value =
        serde_json::from_str(&scratch.must(&["lake", "status", "--json", "--set", &format!("plain.url={within}")]))
            .unwrap();
    let events = said.as_array().unwrap().iter().find(|table| table["table"] == "events").unwrap();
    assert_eq!((&events["plain"]["lag"]["behind"], &events["catalog"]), (&0.into(), &"off".into()), "{events}");
    assert!(events["plain"]["lag"]["dates"].as_u64().unwrap() >= 3, "{events}");
    // To a folder, through this process.
    scratch.must(&["lake", "export"]);
    bucket.copy_to(&scratch);
    assert_exported(&scratch);
    let mut files = 0;
    for table in ["events", "minutes", "dear"] {
        for date in fs::read_dir(scratch.path("plain").join(table)).unwrap() {
            files += fs::read_dir(date.unwrap().path()).unwrap().count();
        }
    }
    assert_eq!(files, copies.len());
}
