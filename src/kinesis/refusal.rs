//! What Kinesis' refusals mean, and what to try: denied, encrypted under a key out of reach, unknown, expired, elsewhere.
//!
//! The one law: a sentence says who must act, the IAM action, the ARN, and the one thing that mends it; what waiting or
//! somebody else mends stays an error of the world.
//!
//! Codes: Amazon Kinesis Data Streams API Reference, the errors of each action and "Common Errors".

use std::sync::OnceLock;

use aws_sdk_kinesis::operation::create_stream::CreateStreamError;
use aws_sdk_kinesis::operation::describe_stream_consumer::DescribeStreamConsumerError;
use aws_sdk_kinesis::operation::describe_stream_summary::DescribeStreamSummaryError;
use aws_sdk_kinesis::operation::get_records::GetRecordsError;
use aws_sdk_kinesis::operation::get_shard_iterator::GetShardIteratorError;
use aws_sdk_kinesis::operation::list_shards::ListShardsError;
use aws_sdk_kinesis::operation::put_records::PutRecordsError;
use aws_sdk_kinesis::operation::register_stream_consumer::RegisterStreamConsumerError;
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardError;

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
impl Asked for DescribeStreamConsumerError {
    const ACTION: &'static str = "DescribeStreamConsumer";
}
impl Asked for RegisterStreamConsumerError {
    const ACTION: &'static str = "RegisterStreamConsumer";
}
impl Asked for SubscribeToShardError {
    const ACTION: &'static str = "SubscribeToShard";
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
                Some(self.denied(action, code, message.unwrap_or_default()))
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
    fn denied(&self, action: &str, code: &str, message: &str) -> String {
        let named = Named::of(message);
        let needed = named.action.map_or_else(|| format!("kinesis:{action}"), str::to_owned);
        let on = named.resource.map_or_else(|| self.arn(), str::to_owned);
        let remedy = match message.contains("explicit deny") {
            true => {
                "a policy denies it expressly, which no other can allow: whoever manages it must take that out, or exempt them"
            }
            false => "whoever manages their policies must allow it (docs/kinesis.md has the policy)",
        };
        format!(
            "Kinesis denies {action} ({code}): {} `{needed}` on `{on}`; {remedy}{}",
            named.who_needs(),
            says(Some(message))
        )
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
                let needed = named.action.unwrap_or(needed);
                ("denies its use", format!("{} `{needed}` on it, by their policy and by the key's", named.who_needs()))
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

    /// The beginning of what is missing.
    fn who_needs(&self) -> String {
        self.user.map_or_else(|| "these credentials need".to_owned(), |user| format!("`{user}` needs"))
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
#[path = "refusal_tests.rs"]
mod tests;
