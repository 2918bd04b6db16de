//! Two writers, one lake: one of them stops, and says so by exit code 75.

use std::fs;
use std::io::Write;
use std::process::Child;

use serde_json::Value;

use crate::support::{Scratch, text, wait_for};

/// Waits for the first epoch; the job must not end meanwhile.
fn wait_for_an_epoch(job: &mut Child, scratch: &Scratch) {
    assert!(wait_for(job, || slot_path(scratch, 1).exists()), "the job ended before its first epoch");
}

fn slot_path(scratch: &Scratch, epoch: u64) -> std::path::PathBuf {
    scratch.lake().join(format!("_epochs/{epoch:020}.json"))
}

fn paced_job(scratch: &Scratch) -> (Child, String) {
    let file = scratch.simulated("days.csv", 20_000).display().to_string();
    (scratch.spawn("job", &["run", "--source", &file, "--pace", "1000"]), file)
}

#[test]
fn a_second_run_on_a_local_lake_is_refused() {
    let scratch = Scratch::new().set("commit.interval=100ms");
    let (mut job, file) = paced_job(&scratch);
    wait_for_an_epoch(&mut job, &scratch);
    let second = scratch.run(&["run", "--source", &file, "--until-caught-up"]);
    assert_eq!(second.status.code(), Some(75), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains(&job.id().to_string()), "the holder is not named: {}", text(&second.stderr));
    job.kill().unwrap();
    job.wait().unwrap();
}

#[test]
fn a_writer_that_was_fenced_stops() {
    let scratch = Scratch::new().set("commit.interval=100ms");
    let (mut job, _) = paced_job(&scratch);
    wait_for_an_epoch(&mut job, &scratch);
    // Another machine takes the lake over: it creates the next slot, whichever that is by now.
    let mut epoch = 2;
    loop {
        let before = fs::read(slot_path(&scratch, epoch - 1)).unwrap();
        let mut fence: Value = serde_json::from_slice(&before).unwrap();
        fence["epoch"] = epoch.into();
        fence["generation"] = (fence["generation"].as_u64().unwrap() + 1).into();
        fence["kind"] = "fence".into();
        fence["host"] = "elsewhere".into();
        fence["writer"] = "00000000-0000-4000-8000-000000000001".into();
        fence["nonce"] = "00000000-0000-4000-8000-000000000002".into();
        match fs::File::create_new(slot_path(&scratch, epoch)) {
            Ok(mut slot) => break slot.write_all(fence.to_string().as_bytes()).unwrap(),
            Err(_) => epoch += 1,
        }
    }
    let ended = job.wait().unwrap();
    let said = fs::read_to_string(scratch.path("job.err")).unwrap();
    assert_eq!(ended.code(), Some(75), "{said}");
    assert!(said.contains("another writer took this lake over"), "{said}");
}
