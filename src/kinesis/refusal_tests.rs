//! Sentences for what AWS answers, in its own words.

use super::*;

const ROLE: &str = "arn:aws:sts::1:assumed-role/job/i-0";
const KEY: &str = "arn:aws:kms:eu-west-1:1:key/0a-1b";

fn site() -> Site {
    Site { stream: "orders".into(), region: "eu-west-1".into(), ..Site::default() }
}

fn lacks(action: &str, resource: &str) -> String {
    format!(
        "User: {ROLE} is not authorized to perform: {action} on resource: {resource} because no identity-based policy \
         allows the {action} action"
    )
}

#[test]
fn a_refusal_says_who_acts_and_names_action_and_arn() {
    let stream = "arn:aws:kinesis:eu-west-1:1:stream/orders";
    let expired =
        "Signature expired: 20261123T100000Z is now earlier than 20261123T101500Z (20261123T102000Z - 5 min.)";
    for (action, code, message, parts) in [
        (
            "GetRecords",
            "AccessDeniedException",
            "",
            &["`kinesis:GetRecords` on `arn:aws:kinesis:eu-west-1:*:stream/orders`"][..],
        ),
        (
            "ListShards",
            "AccessDeniedException",
            &lacks("kinesis:ListShards", stream),
            &[ROLE, "`kinesis:ListShards`", stream, "docs/kinesis.md"],
        ),
        (
            "GetRecords",
            "AccessDeniedException",
            "not authorized: with an explicit deny in a service control policy",
            &["denies it expressly"],
        ),
        (
            "GetRecords",
            "KMSAccessDeniedException",
            &lacks("kms:Decrypt", KEY),
            &[ROLE, "`kms:Decrypt`", KEY, "by the key's"],
        ),
        ("PutRecords", "KMSAccessDeniedException", "", &["`kms:GenerateDataKey`", "describe-stream-summary"]),
        ("GetRecords", "KMSDisabledException", &format!("{KEY} is disabled."), &[KEY, "kms:EnableKey"]),
        (
            "GetRecords",
            "KMSInvalidStateException",
            &format!("{KEY} is pending deletion."),
            &[KEY, "kms:CancelKeyDeletion"],
        ),
        ("GetRecords", "KMSNotFoundException", &format!("Key '{KEY}' does not exist"), &[KEY, "deleted"]),
        ("GetRecords", "KMSOptInRequired", "", &["sign up for KMS"]),
        (
            "GetRecords",
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            &["AWS_ACCESS_KEY_ID", "`eu-west-1`"],
        ),
        (
            "GetRecords",
            "InvalidSignatureException",
            "The request signature we calculated does not match",
            &["AWS_SECRET_ACCESS_KEY"],
        ),
        ("GetRecords", "InvalidSignatureException", expired, &["clock", "NTP"]),
        ("GetRecords", "RequestTimeTooSkewed", "", &["clock"]),
        ("GetRecords", "IncompleteSignature", "", &["HTTPS_PROXY"]),
        ("GetRecords", "MissingAuthenticationTokenException", "Missing Authentication Token", &["HTTPS_PROXY"]),
        ("GetRecords", "OptInRequired", "", &["not signed up for Kinesis"]),
    ] {
        let says = site().mendable(action, code, Some(message)).unwrap_or_default();
        parts.iter().for_each(|part| assert!(says.contains(part), "{code}: no {part:?} in {says:?}"));
    }
    for code in
        ["KMSThrottlingException", "ProvisionedThroughputExceededException", "ExpiredTokenException", "Nonsense"]
    {
        assert_eq!(site().mendable("GetRecords", code, None), None, "{code} is not the user's");
    }
    assert!(site().waits("ExpiredTokenException").unwrap().contains("nothing is lost"));
}

#[test]
fn the_account_is_named_once_it_is_known_and_partitions_are_kept_apart() {
    let known = site();
    known.arn.set("arn:aws:kinesis:eu-west-1:7:stream/orders".into()).unwrap();
    assert!(known.mendable("GetRecords", "AccessDeniedException", None).unwrap().contains("eu-west-1:7:stream/orders"));
    let of = |region: &str| Site { region: region.into(), ..Site::default() }.arn();
    assert_eq!(of("cn-north-1"), "arn:aws-cn:kinesis:cn-north-1:*:stream/*");
    assert_eq!(of("us-gov-west-1"), "arn:aws-us-gov:kinesis:us-gov-west-1:*:stream/*");
}

#[test]
fn a_misspelt_region_is_a_host_that_is_not_there() {
    let dns = "dispatch failure: io error: client error (Connect): dns error: failed to lookup address information";
    let says = site().unreachable(dns).unwrap();
    assert!(says.contains("is `eu-west-1` a region (`stream.region`)"), "{says}");
    let there = Site { url: Some("http://127.0.0.1:9".into()), ..site() };
    let says = there.unreachable("client error (Connect): tcp connect error: Connection refused").unwrap();
    assert!(says.contains("no connection to `http://127.0.0.1:9`"), "{says}");
    assert_eq!(there.unreachable("connection reset by peer"), None);
    let says = site().no_stream("orders", "Stream orders under account 1 not found.");
    assert!(
        says.contains("under account 1") && says.contains("`stream.region`") && says.contains("`eu-west-1`"),
        "{says}"
    );
}
