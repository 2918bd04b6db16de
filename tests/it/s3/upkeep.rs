//! What leaves a lake in a bucket: rows that are erased, dates that expire, tables that are dropped, files out of use; and
//! what S3 answers to whoever deletes, copies and sends in parts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::bucket::{Bucket, PREFIX};
use super::proxy::{Asked, Canned};
use super::{PACE, str, with_queries, within};
use crate::plain::{first_and_late, site, write};
use crate::support::{Scratch, duckdb, text};

/// S3's XML of an answer to DeleteObjects that refuses the first of its keys.
fn not_deleted(asked: &Asked<'_>, code: &str, message: &str) -> Canned {
    let body = String::from_utf8_lossy(asked.body);
    let key = body.split_once("<Key>").and_then(|(_, key)| Some(key.split_once("</Key>")?.0)).unwrap();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Error><Key>{key}</Key><Code>{code}</Code><Message>{message}</Message></Error></DeleteResult>"
    );
    Canned { status: 200, headers: vec![("content-type", "application/xml".to_owned())], body }
}

fn is_deletion(asked: &Asked<'_>) -> bool {
    asked.method == "POST" && asked.query.split('&').any(|part| part.trim_end_matches('=') == "delete")
}

/// Which of the requests that change more than one object of their own a request is.
fn kind(asked: &Asked<'_>) -> Option<&'static str> {
    let says = |part: &str| asked.query.contains(part);
    match asked.method.as_str() {
        "POST" if is_deletion(asked) => Some("deletion"),
        "POST" if says("uploads") => Some("upload"),
        "POST" if says("uploadId") => Some("completion"),
        "PUT" if says("partNumber") => Some("part"),
        "PUT" if asked.headers.contains_key("x-amz-copy-source") => Some("copy"),
        _ => None,
    }
}

/// Keys below the lake.
fn keys(bucket: &Bucket, folder: &str) -> usize {
    let (_, listed) = bucket.proxy.ask("GET", &format!("/{}?list-type=2&prefix={PREFIX}/{folder}", bucket.name));
    listed.matches("<Key>").count()
}

fn json(scratch: &Scratch, args: &[&str]) -> Value {
    let said = scratch.must(args);
    serde_json::from_str(said.trim()).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// The shipped contracts, of which the stream's keeps its dates for a day.
fn keeping_a_day(scratch: Scratch) -> Scratch {
    let contracts = scratch.path("contracts");
    fs::create_dir_all(&contracts).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("lake")).unwrap().map(Result::unwrap) {
        let mut contract = fs::read_to_string(entry.path()).unwrap();
        if entry.file_name() == "transactions.sql" {
            contract = contract.replace("sort_by = 'event_time'", "sort_by = 'event_time', keep = '1d'");
            assert!(contract.contains("keep = '1d'"));
        }
        fs::write(contracts.join(entry.file_name()), contract).unwrap();
    }
    scratch.set(&format!("lake.contracts={}", contracts.display()))
}

#[test]
fn rows_dates_tables_and_old_files_leave_a_bucket_for_good() {
    let bucket = Bucket::new("leaving");
    let scratch = keeping_a_day(with_queries(bucket.scratch()));
    // Two midnights and a half.
    let file = scratch.simulated("days.csv", 6_000);
    scratch.summary(&["--source", str(&file), "--set", "maintenance.enabled=false"]);
    let rows = |scratch: &Scratch, sql: &str| -> u64 {
        let said = scratch.must(&["sql", sql, "--format", "csv"]);
        said.lines().nth(1).unwrap_or_else(|| panic!("{said}")).parse().unwrap()
    };
    let said = scratch.must(&[
        "sql",
        "select card_token from transactions group by card_token order by count(*) desc, card_token limit 1",
        "--format",
        "csv",
    ]);
    let card = said.lines().nth(1).unwrap();
    let of_card = format!("select count(*) from transactions where card_token = '{card}'");
    assert!(rows(&scratch, &of_card) > 3);
    scratch.must(&["lake", "erase", "--card-token", card]);
    assert_eq!(rows(&scratch, &of_card), 0);
    scratch.must(&["audit"]);
    let dates = "select count(distinct event_date) from transactions";
    let before = rows(&scratch, dates);
    let expired = scratch.must(&["lake", "expire"]);
    assert!(rows(&scratch, dates) < before, "{expired}");
    scratch.must(&["audit"]);

    fs::remove_file(scratch.path("queries").join("fraud_alerts.sql")).unwrap();
    assert!(keys(&bucket, "fraud_alerts/") > 3);
    let dropped = json(&scratch, &["lake", "drop", "fraud_alerts", "--json"]);
    assert!(dropped["objects"].as_u64().unwrap() > 3, "{dropped}");
    assert_eq!(keys(&bucket, "fraud_alerts/"), 0);

    // What was taken out goes a month later, in requests of many keys each.
    scratch.must(&["lake", "manifest"]);
    let (files, deletions) = (keys(&bucket, "transactions/event_date"), || {
        bucket.proxy.order().iter().filter(|kind| *kind == "POST deletion").count()
    });
    let before = deletions();
    within::run(&bucket, "vacuum");
    let left = keys(&bucket, "transactions/event_date");
    assert!(left < files && deletions() > before, "{files} files, {left} left");
    scratch.must(&["audit"]);
    let checked = scratch.must(&["lake", "check"]);
    assert!(!checked.contains("error["), "{checked}");
    let counted = rows(&scratch, "select count(*) from transactions");
    bucket.copy_to(&scratch);
    let seen = duckdb(&format!("SELECT count(*) FROM {}", scratch.delta("transactions")));
    assert_eq!(seen[0][0], counted);
}

#[test]
fn a_key_that_is_not_deleted_is_told_and_the_same_command_ends_it() {
    let bucket = Bucket::new("undeleted");
    let scratch = with_queries(bucket.scratch());
    let file = scratch.simulated("day.csv", 300);
    scratch.summary(&["--source", str(&file)]);
    fs::remove_file(scratch.path("queries").join("fraud_alerts.sql")).unwrap();
    type Answer = fn(&Asked<'_>) -> Canned;
    let answers: [(Answer, i32, &str); 3] = [
        (|asked| not_deleted(asked, "AccessDenied", "Access Denied"), 2, "on `arn:aws:s3:::undeleted/some/lake/*`"),
        (|asked| not_deleted(asked, "InternalError", "We encountered an internal error."), 1, "InternalError"),
        (|_| Canned::error(403, "AccessDenied", ""), 2, "`s3:DeleteObject`"),
    ];
    for (answer, code, says) in answers {
        bucket.proxy.play(move |asked| is_deletion(asked).then(|| answer(asked)));
        let output = scratch.run(&["lake", "drop", "fraud_alerts"]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(says), "{:?}: {said}", output.status.code());
        assert!(!said.contains("<?xml"), "{said}");
    }
    bucket.proxy.play_nothing();
    let said = scratch.must(&["lake", "drop", "fraud_alerts"]);
    assert!(said.contains("dropping it is ended"), "{said}");
    assert_eq!(keys(&bucket, "fraud_alerts/"), 0);
    scratch.must(&["audit"]);
}

/// A lake of three days in a bucket, with an export in the same bucket.
fn with_export(bucket: &Bucket, environment: &[(&str, &str)]) -> Scratch {
    let plain = format!("plain.url=s3://{}/some/plain", bucket.name);
    // Another lake than that of the upload.
    let scratch = bucket.scratch().set(&format!("lake.url=s3://{}/another/lake", bucket.name));
    let scratch = environment.iter().fold(scratch, |scratch, (name, value)| scratch.env(name, value));
    let scratch = site(scratch, &["commit.rows_max=300", &plain]);
    let (first, _) = first_and_late(5, 900);
    let file = write(&scratch, "first.ndjson", &first);
    scratch.summary(&["--source", str(&file), "--pace", PACE]);
    scratch
}

#[test]
fn a_session_that_expires_while_objects_are_copied_deleted_and_sent_in_parts_is_renewed() {
    let bucket = Bucket::new("renewed");
    // The first request of each kind is refused, and one more part on the way.
    let refused = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&refused);
    bucket.proxy.play(move |asked| {
        let kind = kind(asked)?;
        let mut seen = seen.lock().unwrap();
        let is_second_part = kind == "part" && asked.query.contains("partNumber=2&");
        let name = if is_second_part { "second part" } else { kind };
        let is_first = !seen.contains(&name);
        is_first.then(|| {
            seen.push(name);
            Canned::error(400, "ExpiredToken", "<Message>The provided token has expired.</Message>")
        })
    });
    within::run(&bucket, "parts");
    let scratch = with_export(&bucket, &[]);
    fs::remove_file(scratch.path("queries").join("dear.sql")).unwrap();
    scratch.must(&["lake", "drop", "dear"]);
    let refused: BTreeSet<&str> = refused.lock().unwrap().iter().copied().collect();
    assert_eq!(refused, BTreeSet::from(["completion", "copy", "deletion", "part", "second part", "upload"]));
    scratch.must(&["audit"]);
}

#[test]
fn uploads_in_parts_and_copies_are_encrypted_as_configured() {
    let bucket = Bucket::new("encrypted-parts");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&seen);
    bucket.proxy.play(move |asked| {
        let header = |name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        // Parts and completions belong to an upload that has said it.
        if let Some(kind @ ("upload" | "copy")) = kind(asked) {
            let by = header("x-amz-server-side-encryption");
            let key = header("x-amz-server-side-encryption-aws-kms-key-id");
            let bucket_key = header("x-amz-server-side-encryption-bucket-key-enabled");
            written.lock().unwrap().push((kind, by, key, bucket_key));
        }
        None
    });
    let settings = [("LAKEWARD__S3__ENCRYPTION", "kms"), ("LAKEWARD__S3__KMS_KEY_ID", "alias/lake")];
    within::run_with(&bucket, "parts", &settings);
    with_export(&bucket, &settings);
    let of = |text: &str| Some(text.to_owned());
    let seen = seen.lock().unwrap();
    for wanted in ["upload", "copy"] {
        assert!(seen.iter().any(|(kind, ..)| *kind == wanted), "no {wanted} among {seen:?}");
    }
    let is_encrypted = |(_, by, key, bucket_key): &(&str, Option<String>, Option<String>, Option<String>)| {
        (by, key, bucket_key) == (&of("aws:kms"), &of("alias/lake"), &of("true"))
    };
    assert!(seen.iter().all(is_encrypted), "{seen:?}");
}
