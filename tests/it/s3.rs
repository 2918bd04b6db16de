//! The lake in a bucket: the real binary against a real S3 server over the wire, with a proxy between that breaks things.
//!
//! The server is moto. What only Amazon answers – denied, another region, an expired session – the proxy plays.

mod beside;
mod bucket;
mod live;
mod proxy;
mod smoke;
mod upkeep;
mod within;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;

use self::bucket::Bucket;
use self::proxy::{Asked, Canned, Fault};
use crate::ddl::without_extensions;
use crate::oracle::assert_lake_equals_input;
use crate::support::{Scratch, interrupt, read_with, say, text, wait_for};

/// Rows a second of a file: pages of 400 rows, each more than an epoch may hold, so each is one.
const PACE: &str = "4000";
const EPOCH_ROWS_MAX: &str = "commit.rows_max=300";

/// Queries of short windows only.
fn with_queries(scratch: Scratch) -> Scratch {
    let queries = scratch.path("queries");
    fs::create_dir_all(&queries).unwrap();
    for query in ["city_minute", "state_minute", "category_hour", "fraud_alerts"] {
        let file = format!("{query}.sql");
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("queries").join(&file), queries.join(&file)).unwrap();
    }
    scratch.set(EPOCH_ROWS_MAX).set(&format!("queries.dir={}", queries.display()))
}

fn str(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

fn count(summary: &Value, field: &str) -> u64 {
    summary[field].as_u64().unwrap_or_else(|| panic!("no `{field}` in {summary}"))
}

/// The books balance, and a copy of the bucket made by another client holds the input and DuckDB's own aggregates.
fn assert_sound(bucket: &Bucket, scratch: &Scratch, file: &Path) {
    scratch.must(&["audit"]);
    bucket.copy_to(scratch);
    assert_lake_equals_input(scratch, file, true);
}

#[test]
fn files_reach_a_lake_in_a_bucket_and_every_command_reads_it() {
    let bucket = Bucket::new("main-job");
    let scratch = with_queries(bucket.scratch());
    let file = scratch.simulated("day.csv", 3_000);
    let summary = scratch.summary(&["--source", str(&file)]);
    assert_eq!((count(&summary, "read"), count(&summary, "written")), (3_000, 3_000), "{summary}");
    let again = scratch.summary(&["--source", str(&file)]);
    assert_eq!((count(&again, "read"), count(&again, "epochs")), (0, 0), "{again}");
    assert_sound(&bucket, &scratch, &file);

    assert!(scratch.must(&["sql", "select count(*) from transactions"]).contains("3000"));
    let batch = scratch.must(&["batch", "queries/category_hour.sql", "--format", "csv"]);
    assert!(batch.lines().count() > 10, "{batch}");
    let checked = scratch.must(&["lake", "check"]);
    assert!(checked.contains("city_minute, version") && !checked.contains("error["), "{checked}");
    // A stranger's table is named by its URL alone, whatever lake is configured.
    let url = format!("{}/transactions", bucket.url());
    let alone = scratch.must(&["--set", "lake.url=./no/lake", "lake", "check", &url]);
    assert!(alone.starts_with("transactions, version"), "{alone}");
    assert!(scratch.must(&["lake", "ddl", "athena"]).contains(&format!("'{url}/'")));
    // DuckDB, by the script for it: another client of S3, told of the server.
    let script = without_extensions(&scratch.must(&["--set", "s3.region=us-east-1", "lake", "ddl", "duckdb"]));
    let asked = format!("{script}\nSELECT count(*) FROM lake.transactions");
    let credentials = [("AWS_ACCESS_KEY_ID", "reader"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    assert_eq!(read_with("duck.py", &[], &credentials, &asked).trim(), "[3000]");
    assert!(scratch.must(&["diff"]).contains("city_minute"));
    scratch.must(&["check"]);
    scratch.must(&["explain", "queries/city_minute.sql"]);
    scratch.must(&["lake", "reconcile"]);
    scratch.must(&["audit"]);
}

#[test]
fn a_replay_through_the_stream_reaches_a_bucket() {
    let bucket = Bucket::new("replay");
    let scratch = with_queries(bucket.scratch()).set("commit.interval=1s");
    let file = scratch.simulated("day.csv.gz", 2_000);
    let summary = scratch.summary(&["--replay", str(&file), "--demo"]);
    assert_eq!((count(&summary, "written"), count(&summary, "late")), (2_000, 0), "{summary}");
    assert_sound(&bucket, &scratch, &file);
}

#[test]
fn the_embedded_stream_writes_to_a_bucket_only_when_asked_for() {
    let bucket = Bucket::new("embedded");
    let scratch = with_queries(bucket.scratch());
    let file = scratch.simulated("day.csv", 100);
    for args in [&["run", "--replay", str(&file), "--until-caught-up"][..], &["run"], &["run", "--accept-new-stream"]] {
        let said = refused(&scratch, args);
        assert!(said.contains("is on S3, but `stream.endpoint` is \"embedded\"") && said.contains("--demo"), "{said}");
    }
    assert!(bucket.proxy.order().is_empty(), "something was asked of the bucket: {:?}", bucket.proxy.order());
    let mut job = scratch.spawn("job", &["run", "--demo", "--set", "simulate.history=1m", "--set", "simulate.rate=50"]);
    // Behind the fence.
    assert!(wait_for(&mut job, || bucket.slots() > 1), "{}", fs::read_to_string(scratch.path("job.err")).unwrap());
    interrupt(&job);
    assert!(job.wait().unwrap().success(), "{}", fs::read_to_string(scratch.path("job.err")).unwrap());
    scratch.must(&["audit"]);
}

#[test]
fn a_commit_costs_few_requests() {
    let bucket = Bucket::new("requests");
    let scratch = with_queries(bucket.scratch());
    let file = scratch.simulated("day.csv", 6_000);
    scratch.summary(&["--source", str(&file), "--pace", PACE]);
    let order = bucket.proxy.order();
    let slots: Vec<usize> = (0..order.len()).filter(|&at| order[at] == "PUT slot").collect();
    // The first epochs after a start also read logs. From slot to slot there is as much staged as published.
    let (first, last) = (slots[slots.len() / 2 + 1], *slots.last().unwrap());
    let steady = &order[first..last];
    let of = |kind: &str| steady.iter().filter(|found| *found == kind).count();
    let (epochs, files, commits) = (of("PUT slot"), of("PUT data"), of("PUT log"));
    assert!(epochs >= 5 && commits >= 5 * (epochs - 1), "{epochs} epochs, {commits} commits");
    // At both ends an epoch may be half done: so many tables have commits here.
    let tables = 6;
    assert!(of("PUT hint").abs_diff(epochs) <= 1, "{} hints in {epochs} epochs", of("PUT hint"));
    // The commit's look is a HEAD; beside the stream the manifests' is a GET and a HEAD, then the date's manifest and the state
    // are written. Epochs that pile up there are taken together.
    let (heads, gets, manifests) = (of("HEAD log"), of("GET log"), of("PUT manifest"));
    // A table's first manifests list their folder, which may come this late.
    let listings = of("GET listing");
    assert!(listings <= tables, "{listings} listings");
    assert!(heads + tables >= commits && heads <= 2 * (commits + tables), "{heads} looks for {commits} commits");
    assert!(gets <= commits + tables, "{gets} reads for {commits} commits");
    assert!(manifests <= 3 * (commits + tables), "{manifests} manifests for {commits} commits");
    assert!(files.abs_diff(commits) <= 2 * tables, "{files} files, {commits} commits");
    let others = steady.len() - epochs - files - commits - of("PUT hint") - heads - gets - manifests - listings;
    assert_eq!(others, 0, "needless requests: {steady:?}");
    say(&format!("{} requests in {epochs} epochs: {files} files, {commits} commits", steady.len()));
}

#[test]
fn a_bucket_survives_kills() {
    let bucket = Bucket::new("kills");
    let scratch = with_queries(bucket.scratch()).set("commit.interval=100ms");
    let file = scratch.simulated("day.csv", 4_000);
    let mut kills = 0;
    for _ in 0..4 {
        let before = bucket.slots();
        let mut job = scratch.spawn("job", &["run", "--source", str(&file), "--until-caught-up", "--pace", "1000"]);
        // Of the new slots the first is the fence.
        if wait_for(&mut job, || bucket.slots() > before + 2) {
            job.kill().unwrap();
            kills += 1;
        }
        job.wait().unwrap();
    }
    assert!(kills >= 2, "the job ended {} times before it could be killed", 4 - kills);
    scratch.summary(&["--source", str(&file)]);
    assert_sound(&bucket, &scratch, &file);
}

#[test]
fn broken_answers_leave_clean_books() {
    let bucket = Bucket::new("broken");
    let scratch = with_queries(bucket.scratch());
    let file = scratch.simulated("day.csv", 3_000);
    bucket.proxy.break_some(10, 7);
    // The writes that decide, whatever the seed hits.
    for kind in ["PUT slot", "PUT log", "PUT data"] {
        bucket.proxy.lose_next(kind, 3);
    }
    let summary = scratch.summary(&["--source", str(&file), "--pace", PACE]);
    assert_eq!((count(&summary, "read"), count(&summary, "written")), (3_000, 3_000), "{summary}");
    scratch.must(&["audit"]);
    bucket.proxy.break_none();
    let injected = bucket.proxy.injected();
    say(&format!("broken on the way: {injected:?}"));
    let of = |fault: Fault, kind: &str| injected.get(&(fault, kind.to_owned())).copied().unwrap_or(0);
    for fault in [Fault::Unavailable, Fault::LostAnswer, Fault::Dropped] {
        let all: u64 = injected.iter().filter(|((f, _), _)| *f == fault).map(|(_, n)| n).sum();
        assert!(all > 10, "{fault:?} came {all} times");
    }
    let applied = |kind: &str| of(Fault::LostAnswer, kind) + of(Fault::Dropped, kind);
    for kind in ["PUT slot", "PUT log", "PUT data"] {
        assert!(applied(kind) >= 3, "{kind} was applied and lost {} times", applied(kind));
    }
    assert_sound(&bucket, &scratch, &file);
}

#[test]
fn of_two_writers_of_a_bucket_one_is_fenced() {
    let bucket = Bucket::new("rivals");
    let scratch = with_queries(bucket.scratch()).set("commit.interval=100ms");
    let file = scratch.simulated("day.csv", 6_000);
    let mut first = scratch.spawn("first", &["run", "--source", str(&file), "--pace", "500"]);
    assert!(wait_for(&mut first, || bucket.slots() > 2), "the job ended before its first epoch");
    let summary = scratch.summary(&["--source", str(&file)]);
    let ended = first.wait().unwrap();
    let said = fs::read_to_string(scratch.path("first.err")).unwrap();
    assert_eq!(ended.code(), Some(75), "{said}");
    assert!(said.contains("another writer took this lake over"), "{said}");
    assert!(count(&summary, "written") > 0, "{summary}");
    assert_sound(&bucket, &scratch, &file);
}

/// Runs a command that must be refused as something the user mends; returns what it said.
fn refused(scratch: &Scratch, args: &[&str]) -> String {
    let output = scratch.run(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    said
}

#[test]
fn refusals_name_what_is_missing() {
    let bucket = Bucket::new("refusals");
    let scratch = with_queries(bucket.scratch());
    let file = scratch.simulated("day.csv", 100);
    let run = ["run", "--source", str(&file), "--until-caught-up"];
    let of_all = |canned: Canned| bucket.proxy.play(move |_: &Asked<'_>| Some(canned.clone()));
    for (status, code, more, says) in [
        (403, "AccessDenied", "", &["s3:PutObject", "arn:aws:s3:::refusals/some/lake/*"][..]),
        (403, "InvalidAccessKeyId", "", &["AWS_ACCESS_KEY_ID"]),
        (403, "SignatureDoesNotMatch", "", &["AWS_SECRET_ACCESS_KEY"]),
        (400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>", &["is in region `eu-west-1`"]),
    ] {
        of_all(Canned::error(status, code, more));
        let said = refused(&scratch, &run);
        for part in says {
            assert!(said.contains(part), "{code}: no {part:?} in {said}");
        }
        assert!(!said.contains("<?xml"), "{said}");
    }
    let region = ("x-amz-bucket-region", "eu-central-1".to_owned());
    let elsewhere = Canned { headers: vec![region], ..Canned::error(301, "PermanentRedirect", "") };
    of_all(elsewhere);
    let said = refused(&scratch, &run);
    assert!(said.contains("s3.region = \"eu-central-1\""), "{said}");
    // Only lists are denied: `sql` begins with one.
    bucket.proxy.play(|asked| {
        let is_list = asked.method == "GET" && !asked.path.contains("lake");
        is_list.then(|| Canned::error(403, "AccessDenied", ""))
    });
    let said = refused(&scratch, &["sql", "select 1"]);
    assert!(said.contains("`s3:ListBucket` on `arn:aws:s3:::refusals`"), "{said}");
    bucket.proxy.play_nothing();

    let missing = Bucket::missing("never-made");
    for args in [&run[..], &["sql", "select 1"], &["audit"], &["lake", "check"]] {
        let said = refused(&with_queries(missing.scratch()), args);
        assert!(said.contains("there is no bucket `never-made`"), "{args:?}: {said}");
    }
    let said = refused(&with_queries(bucket.without_credentials()), &run);
    assert!(said.contains("no AWS credentials were found"), "{said}");
    let said = refused(&scratch, &["--set", "s3.allow_http=false", "audit"]);
    assert!(said.contains("s3.allow_http"), "{said}");

    let nobody = with_queries(bucket.scratch()).set("s3.endpoint=http://127.0.0.1:9").set("s3.retries_max=1");
    let output = nobody.run(&run);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no connection to `http://127.0.0.1:9`"), "{said}");
}

#[test]
fn a_right_that_is_lost_on_the_way_stops_the_job_and_loses_nothing() {
    let bucket = Bucket::new("revoked");
    let scratch = with_queries(bucket.scratch());
    let file = scratch.simulated("day.csv", 3_000);
    let mut left = 20;
    bucket.proxy.play(move |asked| {
        left -= i32::from(asked.method == "PUT" && asked.path.ends_with(".parquet"));
        (left < 0 && asked.method == "PUT").then(|| Canned::error(403, "AccessDenied", ""))
    });
    let said = refused(&scratch, &["run", "--source", str(&file), "--until-caught-up", "--pace", PACE]);
    assert!(said.contains("`s3:PutObject` on `arn:aws:s3:::revoked/some/lake/*`"), "{said}");
    bucket.proxy.play_nothing();
    scratch.summary(&["--source", str(&file)]);
    assert_sound(&bucket, &scratch, &file);
}

#[test]
fn a_conflict_is_taken_for_no_answer() {
    let bucket = Bucket::new("conflicts");
    let scratch = with_queries(bucket.scratch());
    let file = scratch.simulated("day.csv", 1_000);
    // S3 says 409 while another write of the same name is under way; every second create meets one here.
    let refused = Arc::new(Mutex::new(0_u32));
    let (counted, mut creates) = (Arc::clone(&refused), 0_u32);
    bucket.proxy.play(move |asked| {
        let is_create = asked.method == "PUT" && asked.headers.contains_key("if-none-match");
        creates += u32::from(is_create);
        (is_create && creates % 2 == 1).then(|| {
            *counted.lock().unwrap() += 1;
            Canned::error(409, "ConditionalRequestConflict", "")
        })
    });
    let summary = scratch.summary(&["--source", str(&file)]);
    assert_eq!(count(&summary, "written"), 1_000, "{summary}");
    assert!(*refused.lock().unwrap() > 10, "too few conflicts: {}", refused.lock().unwrap());
    assert_sound(&bucket, &scratch, &file);
}

/// RFC 3339, so many seconds from now.
fn in_seconds(seconds: u64) -> String {
    let since_1970 = lakeward::clock::Clock::System.now() / 1_000_000 + i64::try_from(seconds).unwrap();
    lakeward::clock::show_time(since_1970 * 1_000_000)
}

#[test]
fn a_session_that_expires_is_renewed_on_the_way() {
    let bucket = Bucket::new("sessions");
    // A container's credentials service: each session is good for forty requests and then, whatever it promised, expired.
    let sessions = Arc::new(Mutex::new((0_u32, 0_u32)));
    let (given, seen) = (Arc::clone(&sessions), Arc::new(Mutex::new(BTreeSet::new())));
    let signed_by = Arc::clone(&seen);
    bucket.proxy.play(move |asked| {
        let mut sessions = given.lock().unwrap();
        if asked.path == "/credentials" {
            *sessions = (sessions.0 + 1, 40);
            let body = format!(
                "{{\"AccessKeyId\":\"session-{}\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"{}\"}}",
                sessions.0,
                in_seconds(3600)
            );
            return Some(Canned { status: 200, headers: vec![("content-type", "application/json".to_owned())], body });
        }
        signed_by.lock().unwrap().insert(asked.key_id().to_owned());
        let is_current = asked.key_id() == format!("session-{}", sessions.0);
        if !is_current || sessions.1 == 0 {
            return Some(Canned::error(400, "ExpiredToken", "<Message>The provided token has expired.</Message>"));
        }
        sessions.1 -= 1;
        None
    });
    let scratch = with_queries(bucket.without_credentials());
    let service = format!("{}/credentials", bucket.proxy.url);
    let scratch = scratch.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &service);
    let file = scratch.simulated("day.csv", 2_000);
    let summary = scratch.summary(&["--source", str(&file), "--pace", PACE]);
    assert_eq!(count(&summary, "written"), 2_000, "{summary}");
    assert!(seen.lock().unwrap().len() > 3, "too few sessions: {:?}", seen.lock().unwrap());
    assert_sound(&bucket, &scratch, &file);
}

#[test]
fn a_session_near_its_end_is_renewed_before_it_expires() {
    let bucket = Bucket::new("short-sessions");
    let given = Arc::new(Mutex::new(0_u32));
    let counted = Arc::clone(&given);
    // Each is valid for less than what must remain, so the chain is asked again and again, but not by every request.
    bucket.proxy.play(move |asked| {
        (asked.path == "/credentials").then(|| {
            let mut given = given.lock().unwrap();
            *given += 1;
            let body = format!(
                "{{\"AccessKeyId\":\"session-{given}\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"{}\"}}",
                in_seconds(60)
            );
            Canned { status: 200, headers: vec![("content-type", "application/json".to_owned())], body }
        })
    });
    let service = format!("{}/credentials", bucket.proxy.url);
    let scratch = with_queries(bucket.without_credentials()).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &service);
    let file = scratch.simulated("day.csv", 1_500);
    let begun = Instant::now();
    scratch.summary(&["--source", str(&file)]);
    let (asked, most) = (*counted.lock().unwrap(), begun.elapsed().as_secs() / 5 + 1);
    assert!(asked >= 1 && u64::from(asked) <= most, "asked {asked} times in {:?}", begun.elapsed());
}

#[test]
fn what_is_written_is_encrypted_as_configured() {
    let bucket = Bucket::new("encrypted");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let written = Arc::clone(&seen);
    bucket.proxy.play(move |asked| {
        let header = |name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        if asked.method == "PUT" {
            let by = header("x-amz-server-side-encryption");
            let key = header("x-amz-server-side-encryption-aws-kms-key-id");
            let bucket_key = header("x-amz-server-side-encryption-bucket-key-enabled");
            written.lock().unwrap().push((by, key, bucket_key));
        }
        None
    });
    let of = |text: &str| Some(text.to_owned());
    for (settings, wanted) in [
        (&["s3.encryption=kms", "s3.kms_key_id=alias/lake"][..], (of("aws:kms"), of("alias/lake"), of("true"))),
        (&["s3.encryption=kms"], (of("aws:kms"), None, of("true"))),
        (&["s3.encryption=s3"], (of("AES256"), None, None)),
        (&[], (None, None, None)),
    ] {
        let mut scratch = with_queries(bucket.scratch());
        for setting in settings {
            scratch = scratch.set(setting);
        }
        let file = scratch.simulated("day.csv", 200);
        seen.lock().unwrap().clear();
        scratch.summary(&["--source", str(&file), "--allow-late"]);
        let seen = seen.lock().unwrap();
        assert!(seen.len() > 2 && seen.iter().all(|headers| *headers == wanted), "{settings:?}: {seen:?}");
    }
}

#[test]
fn one_of_sixty_four_creates_wins() {
    let bucket = Bucket::new("races");
    within::run(&bucket, "races");
    bucket.proxy.break_some(10, 11);
    within::run(&bucket, "slots");
    assert!(!bucket.proxy.injected().is_empty(), "nothing was broken on the way");
}

#[test]
fn a_large_file_goes_up_in_parts() {
    let bucket = Bucket::new("parts");
    within::run(&bucket, "parts");
    let parts = bucket.proxy.order().iter().filter(|kind| *kind == "PUT part").count();
    assert!(parts >= 3, "{parts} parts");
    bucket.proxy.lose_next("PUT part", 2);
    // S3 then knows no such upload any more, and the object is there.
    bucket.proxy.lose_next("POST completion", 1);
    within::run(&bucket, "parts");
    let injected = bucket.proxy.injected();
    let lost = |kind: &str| injected.get(&(Fault::LostAnswer, kind.to_owned())).copied();
    assert_eq!((lost("PUT part"), lost("POST completion")), (Some(2), Some(1)), "{injected:?}");
}
