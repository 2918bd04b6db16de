//! Refusals as the service sends them, over the wire: what the user is told, and what is waited out.

use super::pipeline::{News, Pipeline};
use super::*;
use crate::config::{self, Config, Endpoint};
use crate::error::Error;
use crate::kinesis::{Consumer, access, connect, reader, stream_facts};
use crate::permission::{Answer, Permission};

const ROLE: &str = "arn:aws:sts::7:assumed-role/job/i-0";
const ARN: &str = "arn:aws:kinesis:eu-west-1:7:stream/transactions";
const KEY: &str = "arn:aws:kms:eu-west-1:7:key/0a-1b";

fn saying(code: &str, message: String) -> Does {
    Does::Answer { status: 400, code: code.to_owned(), message: Some(message) }
}

fn lacks(action: &str, resource: &str) -> String {
    format!(
        "User: {ROLE} is not authorized to perform: {action} on resource: {resource} because no identity-based policy allows it"
    )
}

/// As the configuration says, so that it knows the stream's name.
async fn client_of(url: &str) -> Client {
    let stream = Config::load(None, &[]).unwrap().stream;
    let stream = config::Stream { endpoint: Endpoint::Url(url.to_owned()), region: "eu-west-1".to_owned(), ..stream };
    connect(&stream, None).await.unwrap()
}

/// Reads until something fails.
async fn failure(client: &Client) -> Error {
    let mut handle = reader::spawn(client.clone(), options(Start::TrimHorizon), &Default::default());
    let mut task = std::mem::replace(&mut handle.task, tokio::spawn(async { Ok(()) }));
    let mut pipeline = Pipeline::new(handle);
    loop {
        tokio::select! {
            ended = &mut task => return ended.unwrap().unwrap_err(),
            news = pipeline.next() => if let Err(error) = news {
                return error;
            },
        }
    }
}

#[tokio::test]
async fn whoever_reads_is_told_who_must_act_and_on_what() {
    within(async {
        let faults = Faults::default();
        let (server, _) = server_with(1, &faults).await;
        let client = client_of(server.url()).await;
        for (operation, does, parts) in [
            (
                "ListShards",
                saying("AccessDeniedException", lacks("kinesis:ListShards", ARN)),
                &["`kinesis:ListShards`", ROLE, ARN][..],
            ),
            (
                "GetShardIterator",
                refused(400, "AccessDeniedException"),
                &["`kinesis:GetShardIterator`", "eu-west-1:*:stream/transactions"],
            ),
            (
                "GetRecords",
                saying("AccessDeniedException", lacks("kinesis:GetRecords", ARN)),
                &["`kinesis:GetRecords`", ROLE, ARN],
            ),
            (
                "GetRecords",
                saying("KMSAccessDeniedException", lacks("kms:Decrypt", KEY)),
                &["`kms:Decrypt`", ROLE, KEY],
            ),
            ("GetRecords", saying("KMSDisabledException", format!("{KEY} is disabled.")), &["kms:EnableKey", KEY]),
            (
                "GetRecords",
                saying("KMSInvalidStateException", format!("{KEY} is pending deletion.")),
                &["kms:CancelKeyDeletion", KEY],
            ),
            ("GetRecords", refused(400, "KMSNotFoundException"), &["KMS key", "deleted"]),
            ("GetRecords", refused(400, "KMSOptInRequired"), &["sign up for KMS"]),
            ("ListShards", refused(400, "UnrecognizedClientException"), &["AWS_ACCESS_KEY_ID", server.url()]),
            ("ListShards", refused(400, "InvalidSignatureException"), &["AWS_SECRET_ACCESS_KEY"]),
            ("ListShards", refused(403, "MissingAuthenticationTokenException"), &["HTTPS_PROXY"]),
            ("ListShards", refused(400, "IncompleteSignature"), &["HTTPS_PROXY"]),
        ] {
            faults.add(operation, does.clone());
            let error = failure(&client).await;
            assert!(matches!(error, Error::Usage(_)), "{operation} {does:?}: {error}");
            let text = error.to_string();
            parts.iter().for_each(|part| assert!(text.contains(part), "{operation} {does:?}: no {part:?} in {text}"));
        }
        faults.all_struck().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_was_described_is_named_with_its_account() {
    within(async {
        let faults = Faults::default();
        let (server, _) = server_with(1, &faults).await;
        let client = client_of(server.url()).await;
        let arn = stream_facts(&client, STREAM).await.unwrap().arn;
        faults.add("GetRecords", refused(400, "AccessDeniedException"));
        let text = failure(&client).await.to_string();
        assert!(text.contains(&format!("`kinesis:GetRecords` on `{arn}`")), "{text}");
        let missing = stream_facts(&client, "orders").await.unwrap_err();
        assert!(matches!(missing, Error::Usage(_)), "{missing}");
        let text = missing.to_string();
        assert!(text.contains("`orders`") && text.contains("`stream.region`") && text.contains("account"), "{text}");
    })
    .await;
}

/// A clock that is off: the SDK learns what the service's shows from the first answer, so one more call is made.
#[tokio::test]
async fn a_time_that_is_refused_once_is_mended_and_twice_is_told() {
    within(async {
        let faults = Faults::default();
        let (server, _) = server_with(1, &faults).await;
        let client = client_of(server.url()).await;
        let late = || saying("InvalidSignatureException", "Signature expired: 1 is now earlier than 2".to_owned());
        faults.add("DescribeStreamSummary", late());
        stream_facts(&client, STREAM).await.unwrap();
        faults.add("DescribeStreamSummary", late());
        faults.add("DescribeStreamSummary", refused(400, "RequestTimeTooSkewed"));
        let error = stream_facts(&client, STREAM).await.unwrap_err();
        assert!(matches!(&error, Error::Usage(text) if text.to_string().contains("clock")), "{error}");
        faults.all_struck().unwrap();
    })
    .await;
}

/// These credentials are never renewed: a start gives up soon, and it is nobody's mistake; a job that reads waits.
#[tokio::test]
async fn a_session_that_expired_is_waited_for() {
    within(async {
        let faults = Faults::default();
        let (server, _) = server_with(1, &faults).await;
        let client = client_of(server.url()).await;
        for _ in 0..6 {
            faults.add("DescribeStreamSummary", refused(400, "ExpiredTokenException"));
        }
        let error = stream_facts(&client, STREAM).await.unwrap_err();
        assert!(matches!(error, Error::External { .. }), "{error}");
        assert!(error.to_string().contains("nothing is lost"), "{error}");
        for _ in 0..3 {
            faults.add("GetRecords", refused(400, "ExpiredTokenException"));
        }
        let mut pipeline = Pipeline::new(reader::spawn(client, options(Start::TrimHorizon), &Default::default()));
        while !matches!(pipeline.next().await.unwrap(), News::CaughtUp(_)) {}
        faults.all_struck().unwrap();
        pipeline.stop().await;
    })
    .await;
}

#[tokio::test]
async fn every_permission_is_asked_for_once_and_nothing_is_made() {
    within(async {
        let faults = Faults::default();
        let (server, _) = server_with(2, &faults).await;
        let client = client_of(server.url()).await;
        let asked = |found: &[Permission]| found.iter().map(|permission| permission.action.clone()).collect::<Vec<_>>();
        let all = ["DescribeStreamSummary", "ListShards", "GetShardIterator", "GetRecords"];
        let all = all.map(|action| format!("kinesis:{action}"));
        let found = access::ask(&client, STREAM, None).await;
        assert_eq!(asked(&found), all);
        assert!(found.iter().all(|permission| permission.answer == Answer::Granted), "{found:?}");
        assert!(found[3].on.ends_with(":stream/transactions"), "{found:?}");
        for (place, action) in all.iter().enumerate() {
            faults.add(action.strip_prefix("kinesis:").unwrap(), refused(400, "AccessDeniedException"));
            let found = access::ask(&client, STREAM, None).await;
            assert_eq!(asked(&found), all);
            for (at, permission) in found.iter().enumerate() {
                match &permission.answer {
                    Answer::Refused(why) => assert!(at == place && why.contains(&format!("`{action}`")), "{why}"),
                    Answer::NotAsked(_) => assert!(at > place && place > 0, "{permission:?}"),
                    Answer::Granted => assert!(at != place, "{permission:?}"),
                    Answer::Failed(why) => panic!("{why}"),
                }
            }
        }
        let found = access::ask(&client, "orders", None).await;
        assert!(matches!(&found[0].answer, Answer::Refused(why) if why.contains("no stream `orders`")), "{found:?}");
    })
    .await;
}

/// A consumer is looked for, and neither registered nor subscribed for.
#[tokio::test]
async fn what_subscribing_needs_is_asked_for_as_far_as_nothing_stays_of_it() {
    within(async {
        let faults = Faults::default();
        let (server, _) = server_with(1, &faults).await;
        let client = client_of(server.url()).await;
        let of_consumer = async || access::ask(&client, STREAM, Some("lake")).await.split_off(4);
        for is_registered in [false, true] {
            let found = of_consumer().await;
            let [looked, registers, subscribes] = &found[..] else { panic!("{found:?}") };
            assert_eq!((&*looked.action, &looked.answer), ("kinesis:DescribeStreamConsumer", &Answer::Granted));
            assert!(looked.on.ends_with(":stream/transactions/consumer/*") && looked.on == subscribes.on, "{found:?}");
            let is_left_out = |permission: &Permission| matches!(permission.answer, Answer::NotAsked(_));
            assert!(is_left_out(registers) && is_left_out(subscribes), "{found:?}");
            assert_eq!(
                [&registers.action, &subscribes.action],
                ["kinesis:RegisterStreamConsumer", "kinesis:SubscribeToShard"]
            );
            let arn = stream_facts(&client, STREAM).await.unwrap().arn;
            let consumers = client.list_stream_consumers().stream_arn(arn).send().await.unwrap();
            assert_eq!(consumers.consumers().len(), usize::from(is_registered));
            Consumer::register(client.clone(), STREAM, "lake").await.unwrap();
        }
        faults.add("DescribeStreamConsumer", refused(400, "AccessDeniedException"));
        let answer = of_consumer().await.swap_remove(0).answer;
        let Answer::Refused(why) = &answer else { panic!("{answer:?}") };
        assert!(
            why.contains("`kinesis:DescribeStreamConsumer` on `arn:aws:kinesis:") && why.contains("/consumer/*`"),
            "{why}"
        );
        faults.add("DescribeStreamSummary", refused(400, "AccessDeniedException"));
        let answer = of_consumer().await.swap_remove(0).answer;
        assert!(matches!(answer, Answer::NotAsked(_)), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn whoever_is_far_behind_is_told_of_until_it_has_caught_up() {
    within(async {
        let faults = Faults::default();
        let (_server, client) = server_with(2, &faults).await;
        // 13 of the 24 hours, for a while.
        let hours = 13 * 3_600_000;
        let script =
            format!("[[fault]]\nshard = \"shardId-000000000001\"\nat_most = 3\ndoes = {{ behind_ms = {hours} }}");
        faults.arm(&Faults::parse(&script).unwrap());
        let handle = reader::spawn(client, options(Start::TrimHorizon), &Default::default());
        let unread = handle.unread.clone();
        let mut pipeline = Pipeline::new(handle);
        let now = || Clock::System.now();
        while unread.oldest(now()).is_none() {
            tokio::select! {
                news = pipeline.next() => drop(news.unwrap()),
                () = tokio::task::yield_now() => {}
            }
        }
        let (shard, oldest) = unread.oldest(now()).unwrap();
        assert_eq!((&*shard, oldest.retention), ("shardId-000000000001", RETENTION_MIN));
        assert!((0.54..0.55).contains(&oldest.share(now())), "{oldest:?}");
        pipeline.until_caught_up(&shard).await;
        assert_eq!(unread.oldest(now()), None);
        pipeline.stop().await;
    })
    .await;
}
