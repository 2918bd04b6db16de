//! What Kinesis' refusals mean, and what to try: denied, encrypted under a key out of reach, unknown, expired, elsewhere.
//!
//! The one law: a sentence says who must act, the IAM action, the ARN, and the one thing that mends it; what waiting or
//! somebody else mends stays an error of the world.
//!
//! Codes: Amazon Kinesis Data Streams API Reference, the errors of each action and "Common Errors".

use std::sync::OnceLock;

use aws_sdk_kinesis::operation::create_stream::CreateStreamError;
use aws_sdk_kinesis::operation::describe_stream_summary::DescribeStreamSummaryError;
use aws_sdk_kinesis::operation::get_records::GetRecordsError;
use aws_sdk_kinesis::operation::get_shard_iterator::GetShardIteratorError;
use aws_sdk_kinesis::operation::list_shards::ListShardsError;
use aws_sdk_kinesis::operation::put_records::PutRecordsError;

/// What was asked: the SDK has a type of errors for each action.
pub(super) trait Asked {
    /// The action's name in the API, which is also that of its permission.
    const ACTION: &'static str;
}

impl Asked for CreateStreamError {
    const ACTION: &'static str = "CreateStream";
}
impl Asked for DescribeStreamSummaryError {
    const ACTION: &'static str = "DescribeStreamSummary";
}
impl Asked for GetRecordsError {
    const ACTION: &'static str = "GetRecords";
}
impl Asked for GetShardIteratorError {
    const ACTION: &'static str = "GetShardIterator";
}
impl Asked for ListShardsError {
    const ACTION: &'static str = "ListShards";
}
impl Asked for PutRecordsError {
    const ACTION: &'static str = "PutRecords";
}

/// Where a stream is, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Site {
    /// Empty where a client was made for no stream in particular.
    pub stream: String,
    pub region: String,
    /// Of a server that is not the region's own.
    pub url: Option<String>,
    /// As the service has named it.
    pub arn: OnceLock<String>,
}

impl Site {
    /// The stream's ARN; before the service has named it, of any account.
    pub fn arn(&self) -> String {
        self.arn.get().cloned().unwrap_or_else(|| {
            let stream = if self.stream.is_empty() { "*" } else { &self.stream };
            format!("arn:{}:kinesis:{}:*:stream/{stream}", partition(&self.region), self.region)
        })
    }

    /// Where requests go.
    fn place(&self) -> String {
        self.url.as_ref().map_or_else(|| format!("Kinesis in region `{}`", self.region), |url| format!("`{url}`"))
    }

    /// There is no stream of this name where it was looked for. Whether it is elsewhere, nobody can know from here.
    pub fn no_stream(&self, stream: &str, says: &str) -> String {
        let at = match &self.url {
            Some(url) => format!("at `{url}`"),
            None => format!("in region `{}` under the account of these credentials", self.region),
        };
        format!(
            "no stream `{stream}` {at} (Kinesis says: {says}): a stream of another region or account is not seen from \
             here; correct `stream.name`, `stream.region` or the credentials, or create it"
        )
    }

    /// What the user can mend of a refusal.
    pub fn mendable(&self, action: &str, code: &str, message: Option<&str>) -> Option<String> {
        let says = says(message);
        match code {
            "AccessDeniedException" | "AccessDenied" | "NotAuthorized" | "UnauthorizedOperation" => {
                Some(self.denied(action, message.unwrap_or_default()))
            }
            _ if code.starts_with("KMS") => self.of_key(action, code, message.unwrap_or_default()),
            "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidAccessKeyId" => Some(format!(
                "{} does not know the AWS access key or session token that was given{says}: correct AWS_ACCESS_KEY_ID and \
                 AWS_SESSION_TOKEN, or the profile; a key of another partition, or a region the account has not enabled, \
                 is not known either",
                self.place()
            )),
            _ if is_about_time(code, message) => Some(format!(
                "{} refuses the time that requests are signed with{says}: this machine's clock is off, set it (NTP)",
                self.place()
            )),
            "InvalidSignatureException" | "SignatureDoesNotMatch" => Some(format!(
                "the secret of the AWS access key is wrong{says}: correct AWS_SECRET_ACCESS_KEY or the profile"
            )),
            "IncompleteSignatureException"
            | "IncompleteSignature"
            | "MissingAuthenticationTokenException"
            | "MissingAuthenticationToken" => Some(format!(
                "{} did not get the signature that requests are sent with ({code}){says}: look at what stands between, a \
                 proxy (HTTPS_PROXY) or AWS_ENDPOINT_URL_KINESIS",
                self.place()
            )),
            "OptInRequired" | "SubscriptionRequiredException" => Some(format!(
                "the account of these credentials is not signed up for Kinesis in region `{}`{says}: its owner must enable \
                 the service or the region",
                self.region
            )),
            _ => None,
        }
    }

    /// Which permission is missing: what Kinesis names, or else the one that the request needs.
    fn denied(&self, action: &str, message: &str) -> String {
        let named = Named::of(message);
        let who = named.user.map_or_else(|| "these credentials".to_owned(), |user| format!("`{user}`"));
        let needed = named.action.map_or_else(|| format!("kinesis:{action}"), str::to_owned);
        let on = named.resource.map_or_else(|| self.arn(), str::to_owned);
        let remedy = match message.contains("explicit deny") {
            true => {
                "a policy denies it expressly, which no other can allow: whoever manages it must take that out, or exempt them"
            }
            false => "whoever manages their policies must allow it (docs/kinesis.md has the policy)",
        };
        format!("Kinesis denies {action}: {who} need `{needed}` on `{on}`; {remedy}{}", says(Some(message)))
    }

    /// The key that a stream is encrypted under.
    fn of_key(&self, action: &str, code: &str, message: &str) -> Option<String> {
        let needed = if action == "PutRecords" { "kms:GenerateDataKey" } else { "kms:Decrypt" };
        let named = Named::of(message);
        let key = match key_arn(message).or(named.resource) {
            Some(key) => format!("the KMS key `{key}`"),
            None => format!(
                "the KMS key of the stream (`aws kinesis describe-stream-summary` names it, of `{}`)",
                self.arn()
            ),
        };
        let (what, remedy) = match code {
            "KMSAccessDeniedException" => {
                let who = named.user.map_or_else(|| "these credentials".to_owned(), |user| format!("`{user}`"));
                let remedy =
                    format!("{who} need `{}` on it, by their policy and by the key's", named.action.unwrap_or(needed));
                ("denies its use", remedy)
            }
            "KMSNotFoundException" => (
                "does not find it",
                "it was deleted, or is of another region: put another key on the stream".to_owned(),
            ),
            "KMSDisabledException" => ("says it is disabled", "its owner must enable it (`kms:EnableKey`)".to_owned()),
            "KMSInvalidStateException" => (
                "says that its state allows no use",
                "a key pending deletion its owner can save (`kms:CancelKeyDeletion`, then `kms:EnableKey`)".to_owned(),
            ),
            "KMSOptInRequired" => ("is not open to this account", "its owner must sign up for KMS".to_owned()),
            _ => return None,
        };
        Some(format!("Kinesis cannot use {key} for {action}: KMS {what} ({code}); {remedy}{}", says(Some(message))))
    }

    /// What only waiting or somebody else mends, of an answer.
    pub fn waits(&self, code: &str) -> Option<String> {
        is_expired(code).then(|| {
            format!(
                "the AWS session has expired ({code}) and the SDK's chain has no newer one: renew it (sign in again, new \
                 AWS_SESSION_TOKEN) and start again; nothing is lost, reading goes on behind the newest epoch"
            )
        })
    }

    /// The same where no answer came; `text` is what the transport says.
    pub fn unreachable(&self, text: &str) -> Option<String> {
        let is_unknown = ["dns error", "failed to lookup address", "Name or service not known"];
        if is_unknown.iter().any(|unknown| text.contains(unknown)) {
            let remedy = match &self.url {
                Some(_) => "correct `stream.endpoint`".to_owned(),
                None => format!(
                    "is `{}` a region (`stream.region`), and is there a network? AWS_ENDPOINT_URL_KINESIS counts before it",
                    self.region
                ),
            };
            return Some(format!("no such host: {}: {remedy}", self.place()));
        }
        text.contains("tcp connect error").then(|| {
            format!("no connection to {}: is it reachable from here, and is `stream.region` right?", self.place())
        })
    }
}

/// What AWS says of who may not do what on which resource.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named<'a> {
    user: Option<&'a str>,
    action: Option<&'a str>,
    resource: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// `User: arn:… is not authorized to perform: kinesis:GetRecords on resource: arn:… because no … policy allows it`.
    fn of(message: &'a str) -> Self {
        let word = |before: &str| {
            let (_, rest) = message.split_once(before)?;
            rest.split_whitespace().next().map(|word| word.trim_end_matches([',', '.', ';']))
        };
        Self {
            user: word("User: ").filter(|user| user.starts_with("arn:")),
            action: word("not authorized to perform: ").filter(|action| action.contains(':')),
            resource: word("on resource: ").filter(|resource| resource.starts_with("arn:")),
        }
    }
}

/// The ARN of a key or alias in KMS' words.
fn key_arn(message: &str) -> Option<&str> {
    let words = message.split([' ', '\'', '"', '(', ')', '`']);
    words
        .map(|word| word.trim_end_matches([',', '.', ';']))
        .find(|word| word.starts_with("arn:") && word.contains(":kms:"))
}

/// The service's own words, where it has any.
fn says(message: Option<&str>) -> String {
    message
        .filter(|message| !message.is_empty())
        .map_or_else(String::new, |message| format!(" (Kinesis says: {message})"))
}

/// Whether the session of the credentials is over.
pub(super) fn is_expired(code: &str) -> bool {
    matches!(code, "ExpiredTokenException" | "ExpiredToken" | "TokenRefreshRequired")
}

/// Whether the time a request was signed at is refused: the signature itself may be right.
pub(super) fn is_about_time(code: &str, message: Option<&str>) -> bool {
    let is_of_time = |text: &str| text.contains("Signature expired") || text.contains("Signature not yet current");
    match code {
        "RequestTimeTooSkewed" | "RequestExpired" => true,
        "InvalidSignatureException" | "SignatureDoesNotMatch" => message.is_some_and(is_of_time),
        _ => false,
    }
}

/// Regions of China and of the government's cloud have ARNs of their own.
fn partition(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

#[cfg(test)]
mod tests {
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
        assert!(
            known.mendable("GetRecords", "AccessDeniedException", None).unwrap().contains("eu-west-1:7:stream/orders")
        );
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
}
