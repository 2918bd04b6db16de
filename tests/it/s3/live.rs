//! `lakeward check --live`: what it asks of a bucket, and that it leaves nothing there.

use serde_json::Value;

use super::bucket::Bucket;
use super::proxy::{Asked, Canned};
use crate::support::text;

/// Action and answer of each permission, and how the command ended.
fn asked(bucket: &Bucket) -> (Vec<(String, String)>, Option<i32>) {
    let output = bucket.scratch().run(&["check", "--live", "--json"]);
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    let of = |permission: &Value| {
        assert!(permission["on"].as_str().unwrap().starts_with("arn:aws:s3:::live"), "{permission}");
        let word = |name: &str| permission[name].as_str().unwrap().to_owned();
        (word("action"), word("answer"))
    };
    (found.as_array().unwrap().iter().map(of).collect(), output.status.code())
}

const ACTIONS: [&str; 5] =
    ["s3:ListBucket", "s3:PutObject", "s3:PutObject (If-None-Match)", "s3:GetObject", "s3:DeleteObject"];

fn answers(expected: [&str; 5]) -> Vec<(String, String)> {
    ACTIONS.iter().zip(expected).map(|(action, answer)| ((*action).to_owned(), answer.to_owned())).collect()
}

#[test]
fn a_bucket_is_asked_by_one_object_that_is_gone_afterwards() {
    let bucket = Bucket::new("live");
    assert_eq!(asked(&bucket), (answers(["granted"; 5]), Some(0)));
    let (status, listed) = bucket.proxy.ask("GET", "/live?list-type=2");
    assert!(status == 200 && !listed.contains("<Key>"), "{listed}");

    type Rule = fn(&Asked<'_>) -> bool;
    let rules: [(Rule, [&str; 5]); 3] = [
        (|asked| asked.method == "PUT", ["granted", "refused", "not_asked", "not_asked", "not_asked"]),
        (
            |asked| asked.method == "GET" && asked.path.contains("_check-"),
            ["granted", "granted", "granted", "refused", "granted"],
        ),
        (
            |asked| asked.method == "GET" && !asked.path.contains("_check-"),
            ["refused", "granted", "granted", "granted", "granted"],
        ),
    ];
    for (rule, expected) in rules {
        bucket.proxy.play(move |asked| rule(asked).then(|| Canned::error(403, "AccessDenied", "")));
        assert_eq!(asked(&bucket), (answers(expected), Some(2)));
    }
    bucket.proxy.play_nothing();
    let (_, listed) = bucket.proxy.ask("GET", "/live?list-type=2");
    assert!(!listed.contains("<Key>"), "{listed}");
    let said = bucket.scratch().must(&["check", "--live"]);
    assert!(said.contains("ok         s3:DeleteObject on arn:aws:s3:::live/some/lake/*"), "{said}");
}
