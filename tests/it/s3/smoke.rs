//! The program that asks a real account (`tests/aws/smoke.py`), rehearsed against a server of our own: its stream, its lake,
//! its catalog, and that it leaves nothing behind. What Athena, Spectrum and a crawler answer only Amazon can say.

use std::path::Path;
use std::process::Command;

use super::bucket::Bucket;
use crate::support::{Scratch, readers, text};

#[test]
fn the_smoke_test_runs_and_takes_away_what_it_made() {
    let (bucket, scratch) = (Bucket::new("smoke"), Scratch::new());
    let output = Command::new(readers())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aws/smoke.py"))
        .args(["--lake", "s3://smoke/runs", "--lakeward", env!("CARGO_BIN_EXE_lakeward")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("TMPDIR", scratch.path(""))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("AWS_ENDPOINT_URL", &bucket.proxy.url)
        .env("AWS_ACCESS_KEY_ID", "writer")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .unwrap();
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.contains("all answers are equal"), "{said}");
    // Six tables, after the first commits and after a compaction.
    assert_eq!(said.matches("equal    Glue, after").count(), 12, "{said}");
    assert!(!said.contains("left behind"), "{said}");
    let (_, left) = bucket.proxy.ask("GET", "/smoke?list-type=2");
    assert!(!left.contains("<Key>"), "{left}");
}
