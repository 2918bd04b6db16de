//! What S3's refusals mean, and what to try: denied, misspelled, expired, elsewhere.
//!
//! The one law: a sentence names the bucket, what was tried, and the one thing that mends it; what only waiting mends stays
//! an error of the world. The client hands over S3's answer as text, so codes are read out of it.
//!
//! Codes: Amazon S3 API Reference, "Error responses".

use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};

use crate::error::Mendable;

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Read,
    Write,
    Abort,
    Delete,
    List,
}

/// Where it was tried.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    pub(super) bucket: &'a str,
    pub(super) prefix: &'a str,
    pub(super) endpoint: Option<&'a str>,
    /// The one requests are signed for; empty before the first.
    pub(super) region: &'a str,
    /// The bucket's, if S3 has said that it is another.
    pub(super) region_seen: Option<&'a str>,
}

/// An error of the world in our words; the client's own follow.
#[derive(Debug, thiserror::Error)]
#[error("{says}")]
struct Told {
    says: String,
    source: StoreError,
}

/// Whether the credentials of a request had expired, or may have: a HEAD is answered 400 and nothing else.
pub(super) fn is_expired(error: &StoreError) -> bool {
    let text = error.to_string();
    match element(&text, "Code") {
        Some(code) => matches!(code, "ExpiredToken" | "TokenRefreshRequired"),
        None => is_mute(&text),
    }
}

/// Whether the answer is that of a HEAD which S3 refused to understand.
fn is_mute(text: &str) -> bool {
    text.contains("performing HEAD") && text.contains("status code: 400")
}

/// Whether a conditional write met another one under way: the client calls that "already exists", but nobody knows yet.
pub(super) fn is_conflict(error: &StoreError) -> bool {
    matches!(error, StoreError::AlreadyExists { source, .. } if source.to_string().contains("409 Conflict"))
}

/// The code of one key's refusal in an answer to DeleteObjects, which the client words itself.
fn of_deletion(text: &str) -> Option<&str> {
    let (_, refusal) = text.split_once("DeleteObjects request failed")?.1.rsplit_once("(code: ")?;
    refusal.split(')').next()
}

/// The error as people should read it. Answers the protocol knows – exists, does not exist – stay as they are.
pub(super) fn told(site: &Site<'_>, doing: Doing, error: StoreError) -> StoreError {
    if Mendable::inside(&error).is_some() {
        return error;
    }
    let is_conflict = is_conflict(&error);
    let text = error.to_string();
    let code = element(&text, "Code").or_else(|| of_deletion(&text));
    match (&error, code) {
        (StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }, _) if !is_conflict => return error,
        (StoreError::NotFound { .. }, code) if code != Some("NoSuchBucket") => return error,
        (StoreError::NotModified { .. } | StoreError::InvalidPath { .. } | StoreError::NotSupported { .. }, _) => {
            return error;
        }
        _ => {}
    }
    match site.mendable(doing, &error, code, &text) {
        Some(says) => StoreError::Generic { store: "S3", source: Box::new(Mendable(says)) },
        None => match site.waits(&error, code, is_conflict) {
            Some(says) => StoreError::Generic { store: "S3", source: Box::new(Told { says, source: error }) },
            None => error,
        },
    }
}

impl Site<'_> {
    /// What the user can mend.
    fn mendable(&self, doing: Doing, error: &StoreError, code: Option<&str>, text: &str) -> Option<String> {
        let (bucket, region) = (self.bucket, self.region);
        let is_redirect = matches!(
            code,
            Some(
                "PermanentRedirect"
                    | "TemporaryRedirect"
                    | "AuthorizationHeaderMalformed"
                    | "IllegalLocationConstraintException"
            )
        ) || text.contains("redirect without LOCATION");
        // A HEAD that goes to the wrong region is answered 400, without a code.
        let is_about_region = is_redirect || text.contains("status code: 400");
        let elsewhere = self.region_seen.or_else(|| element(text, "Region")).filter(|seen| *seen != region);
        let elsewhere = elsewhere.filter(|_| is_about_region);
        match (code, elsewhere) {
            (_, Some(seen)) => Some(format!(
                "bucket `{bucket}` is in region `{seen}`, not in `{region}`: set `s3.region = \"{seen}\"`, or AWS_REGION"
            )),
            (_, None) if is_redirect => Some(format!(
                "bucket `{bucket}` is not in region `{region}`: set `s3.region` to the bucket's (`aws s3api \
                 get-bucket-location --bucket {bucket}` tells)"
            )),
            (Some("NoSuchBucket"), _) => {
                let at = self.endpoint.map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
                Some(format!("there is no bucket `{bucket}`{at}: create it, or correct `lake.url`"))
            }
            (Some("InvalidBucketName"), _) => {
                Some(format!("`{bucket}` is no name a bucket can have: correct `lake.url`"))
            }
            (Some("InvalidAccessKeyId" | "InvalidClientTokenId"), _) => Some(format!(
                "S3 does not know the AWS access key that was given{}: correct AWS_ACCESS_KEY_ID or the profile",
                self.endpoint.map_or_else(String::new, |endpoint| format!(" to {endpoint}"))
            )),
            (Some("SignatureDoesNotMatch"), _) => Some(
                "the secret of the AWS access key is wrong: correct AWS_SECRET_ACCESS_KEY or the profile".to_owned(),
            ),
            (Some("InvalidToken"), _) => Some(
                "the AWS session token does not belong to the access key: set all three of AWS_ACCESS_KEY_ID, \
                 AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN from one session, or none"
                    .to_owned(),
            ),
            (Some("RequestTimeTooSkewed"), _) => {
                Some("this machine's clock is more than 15 minutes off: set it".to_owned())
            }
            (Some("NotImplemented"), _) if doing == Doing::Write => Some(format!(
                "the store at `{}` knows no conditional writes (If-None-Match), which decide epochs: use one that does",
                self.endpoint.unwrap_or("S3")
            )),
            (Some(code), _) if code.starts_with("KMS.") => Some(format!(
                "KMS refuses the key that encrypts the lake ({code}): {}; correct `s3.kms_key_id` or the bucket's default \
                 encryption",
                element(text, "Message").unwrap_or("no reason given")
            )),
            _ if matches!(error, StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. })
                || code == Some("AccessDenied") =>
            {
                Some(self.denied(doing, text))
            }
            _ => None,
        }
    }

    /// Which permission is missing: what S3 names, or else the one the request needs.
    fn denied(&self, doing: Doing, text: &str) -> String {
        let (bucket, prefix) = (self.bucket, self.prefix);
        let objects = match prefix.is_empty() {
            true => format!("arn:aws:s3:::{bucket}/*"),
            false => format!("arn:aws:s3:::{bucket}/{prefix}/*"),
        };
        let (what, action) = match doing {
            Doing::Read => ("reading", "s3:GetObject"),
            Doing::Write => ("writing", "s3:PutObject"),
            Doing::Abort => ("ending an upload", "s3:AbortMultipartUpload"),
            Doing::Delete => ("deleting", "s3:DeleteObject"),
            Doing::List => ("listing", "s3:ListBucket"),
        };
        let message = element(text, "Message").unwrap_or_default();
        let named = message.split_once("not authorized to perform: ").map(|(_, rest)| rest);
        let named = named.and_then(|rest| rest.split([' ', '"', ',']).next()).filter(|named| named.contains(':'));
        let needed = match named.unwrap_or(action) {
            key if key.starts_with("kms:") => format!("`{key}` on the KMS key of `s3.kms_key_id` or of the bucket"),
            "s3:ListBucket" => format!("`s3:ListBucket` on `arn:aws:s3:::{bucket}`"),
            // Without ListBucket S3 says "denied" instead of "not found".
            "s3:GetObject" => format!(
                "`s3:GetObject` on `{objects}`, and `s3:ListBucket` on `arn:aws:s3:::{bucket}`, without which S3 also denies \
                 objects that are not there"
            ),
            action => format!("`{action}` on `{objects}`"),
        };
        let says = if message.is_empty() { String::new() } else { format!(" (S3 says: {message})") };
        format!("S3 denies {what} in bucket `{bucket}`: these credentials need {needed}{says}")
    }

    /// What only time or somebody else mends.
    fn waits(&self, error: &StoreError, code: Option<&str>, is_conflict: bool) -> Option<String> {
        match code {
            Some(code) if is_expired(error) => {
                return Some(format!(
                    "the AWS session has expired ({code}) and the SDK's chain has no newer one: renew it (sign in again, new \
                     AWS_SESSION_TOKEN) and start again"
                ));
            }
            None if is_expired(error) => {
                return Some(
                    "S3 refuses the request (400) and, to a HEAD, says no reason: an expired session or another region are \
                     the usual ones"
                        .to_owned(),
                );
            }
            _ => {}
        }
        if is_conflict {
            return Some("another write of the same object was under way, and nobody knows how it ended".to_owned());
        }
        let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
        let kind = causes.filter_map(|error| error.downcast_ref::<HttpError>()).map(HttpError::kind).next()?;
        let at = self.endpoint.map_or_else(|| format!("S3 in region `{}`", self.region), |e| format!("`{e}`"));
        match kind {
            HttpErrorKind::Connect => Some(format!(
                "no connection to {at}: is it reachable from here, and are `s3.endpoint` and `s3.region` right?"
            )),
            HttpErrorKind::Timeout => Some(format!("no answer from {at} within `s3.request_timeout`")),
            _ => None,
        }
    }
}

/// The text of the first `<name>` in S3's answer.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const SITE: Site<'_> = Site { bucket: "b", prefix: "lake", endpoint: None, region: "us-east-1", region_seen: None };

    /// As the client words an answer.
    fn answer(status: &str, body: &str) -> String {
        format!(
            "Error performing PUT https://b.s3.us-east-1.amazonaws.com/lake/x in 12ms - Server returned non-2xx status \
             code: {status}: {body}"
        )
    }

    fn body(code: &str, more: &str) -> String {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code>{more}<RequestId>1</RequestId></Error>")
    }

    fn generic(status: &str, body: &str) -> StoreError {
        StoreError::Generic { store: "S3", source: answer(status, body).into() }
    }

    fn denied(body: &str) -> StoreError {
        StoreError::PermissionDenied { path: "lake/x".to_owned(), source: answer("403 Forbidden", body).into() }
    }

    /// What the user reads, and whether it is his to mend.
    fn read(site: &Site<'_>, doing: Doing, error: StoreError) -> (bool, String) {
        let error = Error::external("cannot write to the lake", told(site, doing, error));
        (matches!(error, Error::Usage(_)), error.to_string())
    }

    #[test]
    fn a_refusal_says_what_mends_it() {
        let assumed = "<Message>User: arn:aws:sts::1:assumed-role/job/i-0 is not authorized to perform: kms:GenerateDataKey \
                       on resource: arn:aws:kms:us-east-1:1:key/k because no identity-based policy allows it</Message>";
        for (doing, error, says) in [
            (Doing::Write, denied(&body("AccessDenied", "")), "`s3:PutObject` on `arn:aws:s3:::b/lake/*`"),
            (
                Doing::Read,
                denied(""),
                "`s3:GetObject` on `arn:aws:s3:::b/lake/*`, and `s3:ListBucket` on `arn:aws:s3:::b`",
            ),
            (Doing::List, generic("403 Forbidden", &body("AccessDenied", "")), "`s3:ListBucket` on `arn:aws:s3:::b`"),
            (Doing::Delete, denied(&body("AccessDenied", "")), "`s3:DeleteObject`"),
            (Doing::Write, denied(&body("AccessDenied", assumed)), "`kms:GenerateDataKey` on the KMS key"),
            (Doing::Write, denied(&body("InvalidAccessKeyId", "")), "does not know the AWS access key"),
            (Doing::Write, denied(&body("SignatureDoesNotMatch", "")), "AWS_SECRET_ACCESS_KEY"),
            (Doing::Write, denied(&body("RequestTimeTooSkewed", "")), "clock"),
            (Doing::Write, generic("400 Bad Request", &body("KMS.DisabledException", "")), "s3.kms_key_id"),
            (Doing::Write, generic("501 Not Implemented", &body("NotImplemented", "")), "If-None-Match"),
            (
                Doing::Write,
                generic("400 Bad Request", &body("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")),
                "set `s3.region = \"eu-west-1\"`",
            ),
            (
                Doing::Read,
                StoreError::Generic { store: "S3", source: "Received redirect without LOCATION, this".into() },
                "get-bucket-location",
            ),
            (
                Doing::Read,
                StoreError::NotFound {
                    path: "lake/x".to_owned(),
                    source: answer("404 Not Found", &body("NoSuchBucket", "")).into(),
                },
                "there is no bucket `b`",
            ),
        ] {
            let (is_usage, text) = read(&SITE, doing, error);
            assert!(is_usage && text.contains(says), "no {says:?} in {text:?}");
        }
    }

    #[test]
    fn the_region_of_a_header_is_named() {
        let site = Site { region_seen: Some("eu-central-1"), ..SITE };
        let error = StoreError::Generic { store: "S3", source: "Received redirect without LOCATION".into() };
        let (is_usage, text) = read(&site, Doing::Read, error);
        assert!(is_usage && text.contains("is in region `eu-central-1`, not in `us-east-1`"), "{text}");
    }

    #[test]
    fn what_waiting_mends_is_no_usage() {
        let (is_usage, text) = read(&SITE, Doing::Write, generic("400 Bad Request", &body("ExpiredToken", "")));
        assert!(!is_usage && text.contains("has expired"), "{text}");
        let mute = "Error performing HEAD https://b/x in 1ms - Server returned non-2xx status code: 400 Bad Request: ";
        let mute = StoreError::Generic { store: "S3", source: mute.into() };
        assert!(is_expired(&mute));
        let (is_usage, text) = read(&SITE, Doing::Read, mute);
        assert!(!is_usage && text.contains("an expired session"), "{text}");
        let (is_usage, text) = read(&SITE, Doing::Write, generic("503 Slow Down", &body("SlowDown", "")));
        assert!(!is_usage && text.contains("SlowDown"), "{text}");
    }

    #[test]
    fn the_protocols_own_answers_stay_and_a_conflict_is_none_of_them() {
        let exists =
            |status: &str| StoreError::AlreadyExists { path: "x".to_owned(), source: answer(status, "").into() };
        let kept = told(&SITE, Doing::Write, exists("412 Precondition Failed"));
        assert!(matches!(kept, StoreError::AlreadyExists { .. }), "{kept}");
        let absent =
            StoreError::NotFound { path: "x".to_owned(), source: answer("404", &body("NoSuchKey", "")).into() };
        assert!(matches!(told(&SITE, Doing::Read, absent), StoreError::NotFound { .. }));
        let conflict = told(&SITE, Doing::Write, exists("409 Conflict"));
        assert!(matches!(&conflict, StoreError::Generic { .. }), "{conflict}");
    }
}
