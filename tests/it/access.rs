//! Who the job is to AWS: the SDK's chain of credentials, sessions that end on the way, and what is said when it may not.

mod cloud;

use std::fs;

use lakeward::kinesis::Does;
use serde_json::Value;

use self::cloud::{Cloud, ROLE, session};
use crate::moto::Moto;
use crate::support::{Scratch, interrupt, text, wait_for};

const ROWS: u32 = 2_000;

/// Reads the whole stream by sessions of two requests each; returns who was asked for them.
fn reads_all(cloud: &Cloud, job: &Scratch) -> Vec<String> {
    cloud.seen();
    let summary = job.summary(&[]);
    assert_eq!((&summary["read"], &summary["written"]), (&ROWS.into(), &ROWS.into()), "{summary}");
    let (asked, signed) = cloud.seen();
    assert!(signed.len() >= 3, "too few sessions: {signed:?}");
    assert!(signed.values().all(|calls| *calls <= 5), "asked again with a session that is over: {signed:?}");
    job.must(&["audit"]);
    asked
}

#[test]
fn every_way_to_a_session_is_gone_again_when_it_ends() {
    let cloud = Cloud::new(ROWS);
    let role = format!("role_arn = {ROLE}\nsource_profile = base");
    let job = cloud.profile(cloud.job(), &role).env("AWS_ENDPOINT_URL_STS", &cloud.services);
    for asked in reads_all(&cloud, &job) {
        assert_eq!(asked, format!("AssumeRole {ROLE} by lasting-base"));
    }

    let token = cloud.file("token", "the-token");
    let job = cloud.job().env("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()).env("AWS_ROLE_ARN", ROLE);
    for asked in reads_all(&cloud, &job.env("AWS_ENDPOINT_URL_STS", &cloud.services)) {
        assert_eq!(asked, format!("AssumeRoleWithWebIdentity {ROLE} with the-token"));
    }

    let container = format!("{}/container", cloud.services);
    for asked in reads_all(&cloud, &cloud.job().env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container)) {
        assert_eq!(asked, "/container");
    }

    let instance = cloud.job().env("AWS_EC2_METADATA_DISABLED", "false");
    for asked in reads_all(&cloud, &instance.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &cloud.services)) {
        assert!(asked.ends_with("/lake"), "{asked}");
    }
}

#[test]
fn a_process_gives_sessions_and_a_key_of_the_environment_lasts() {
    let cloud = Cloud::new(ROWS);
    let count = cloud.folder.path("count");
    let told = session("process-$n").replace('"', "\\\"");
    let script =
        format!("n=$(cat {0} 2>/dev/null || echo 0); n=$((n+1)); echo $n > {0}; echo \"{told}\"", count.display());
    let script = cloud.file("give.sh", &script);
    let job = cloud.profile(cloud.job(), &format!("credential_process = sh {}", script.display()));
    assert!(reads_all(&cloud, &job).is_empty());
    assert!(fs::read_to_string(count).unwrap().trim().parse::<u32>().unwrap() >= 3);

    let job = cloud.job().env("AWS_ACCESS_KEY_ID", "lasting-key").env("AWS_SECRET_ACCESS_KEY", "s");
    assert_eq!(job.summary(&[])["read"], ROWS);
    let (asked, signed) = cloud.seen();
    assert!(asked.is_empty() && signed.keys().eq(["lasting-key"]), "{asked:?} {signed:?}");
}

/// An STS that nobody here wrote.
#[test]
fn a_role_is_assumed_of_another_server_too() {
    let (cloud, moto) = (Cloud::new(ROWS), Moto::start());
    let role = format!("role_arn = {}\nsource_profile = base", ROLE.replace(":7:", ":123456789012:"));
    let job = cloud.profile(cloud.job(), &role).env("AWS_ENDPOINT_URL_STS", &moto.url());
    assert!(reads_all(&cloud, &job).is_empty());
}

/// The container's service has nothing for a while: the job waits, and goes on where it was.
#[test]
fn credentials_that_are_gone_for_a_while_are_waited_for() {
    let cloud = Cloud::new(ROWS);
    let container = format!("{}/container", cloud.services);
    let job = cloud.job().env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container);
    let mut running = job.spawn("job", &["run", "--json"]);
    let sessions = || cloud.seen.lock().unwrap().asked.len();
    assert!(wait_for(&mut running, || sessions() >= 2), "{}", fs::read_to_string(job.path("job.err")).unwrap());
    cloud.seen.lock().unwrap().refusing = 3;
    assert!(wait_for(&mut running, || sessions() >= 7), "{}", fs::read_to_string(job.path("job.err")).unwrap());
    interrupt(&running);
    let ended = running.wait().unwrap();
    let [out, err] = ["job.out", "job.err"].map(|file| fs::read_to_string(job.path(file)).unwrap());
    assert!(ended.success(), "{err}");
    assert!(err.contains("no AWS credentials") && err.contains("trying again"), "{err}");
    let summary: Value = serde_json::from_str(out.trim()).unwrap();
    let read = summary["read"].as_u64().unwrap();
    assert_eq!(read + job.summary(&[])["read"].as_u64().unwrap(), u64::from(ROWS));
    job.must(&["audit"]);
}

/// What a command says that must be refused as something the user mends.
fn refused(job: &Scratch, args: &[&str]) -> String {
    let output = job.run(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}{}", text(&output.stdout));
    said
}

#[test]
fn who_may_not_is_told_what_is_missing() {
    let cloud = Cloud::new(10);
    let run = ["run", "--until-caught-up"];
    assert!(refused(&cloud.job(), &run).contains("no AWS credentials were found"));
    let job = cloud.profile(cloud.job(), "role_arn = x\nsource_profile = base\ncredential_source = Environment");
    assert!(refused(&job, &run).contains("the AWS profile cannot be used"));

    cloud.seen.lock().unwrap().denying = true;
    let role = format!("role_arn = {ROLE}\nsource_profile = base");
    let job = cloud.profile(cloud.job(), &role).env("AWS_ENDPOINT_URL_STS", &cloud.services);
    let said = refused(&job, &run);
    assert!(said.contains(&format!("the role `{ROLE}`")) && said.contains("`sts:AssumeRole`"), "{said}");
    let token = cloud.file("token", "t");
    let job = cloud.job().env("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()).env("AWS_ROLE_ARN", ROLE);
    let said = refused(&job.env("AWS_ENDPOINT_URL_STS", &cloud.services), &run);
    assert!(said.contains("`sts:AssumeRoleWithWebIdentity`"), "{said}");

    let job = || cloud.job().env("AWS_ACCESS_KEY_ID", "lasting-key").env("AWS_SECRET_ACCESS_KEY", "s");
    for operation in ["DescribeStreamSummary", "ListShards", "GetRecords"] {
        cloud.faults.add(operation, Does::Answer { status: 400, code: "AccessDeniedException".into(), message: None });
        let said = refused(&job(), &run);
        assert!(said.contains(&format!("`kinesis:{operation}`")), "{operation}: {said}");
        assert!(said.contains(":kinesis:eu-west-1:") && said.contains(":stream/transactions`"), "{operation}: {said}");
    }
    let said = refused(&job().set("stream.name=orders"), &run);
    assert!(said.contains("no stream `orders`") && said.contains("`eu-west-1`"), "{said}");

    let nobody = job().env("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:9");
    let output = nobody.run(&run);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no connection to"), "{said}");
}

/// Nobody renews it: the start ends soon, and the next one goes on.
#[test]
fn a_session_that_nobody_renews_ends_the_start_and_loses_nothing() {
    let cloud = Cloud::new(10);
    let job = || cloud.job().env("AWS_SECRET_ACCESS_KEY", "s").env("AWS_SESSION_TOKEN", "t");
    let expired = || Does::Answer { status: 400, code: "ExpiredTokenException".into(), message: None };
    (0..6).for_each(|_| cloud.faults.add("DescribeStreamSummary", expired()));
    let job = job().env("AWS_ACCESS_KEY_ID", "lasting-key");
    let output = job.run(&["run", "--until-caught-up"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the AWS session has expired") && said.contains("nothing is lost"), "{said}");
    assert_eq!(job.summary(&[])["read"], 10);
}

#[test]
fn check_live_asks_for_every_permission_and_makes_nothing() {
    let cloud = Cloud::new(10);
    let job = cloud.job().env("AWS_ACCESS_KEY_ID", "lasting-key").env("AWS_SECRET_ACCESS_KEY", "s");
    let live = ["check", "--live"];
    let told = job.must(&live);
    for action in ["DescribeStreamSummary", "ListShards", "GetShardIterator", "GetRecords"] {
        assert!(told.contains(&format!("ok         kinesis:{action} on arn:aws:kinesis:eu-west-1:")), "{told}");
    }
    assert!(told.contains("city_minute: ok") && !job.lake().exists(), "{told}");
    let streams = cloud.block_on(cloud.client.list_streams().send()).unwrap();
    assert_eq!(streams.stream_names(), ["transactions"]);

    cloud.faults.add("GetRecords", Does::Answer { status: 400, code: "AccessDeniedException".into(), message: None });
    let output = job.run(&["check", "--live", "--json"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found[3]["action"], &found[3]["answer"]),
        (&"kinesis:GetRecords".into(), &"refused".into()),
        "{found}"
    );
    assert!(
        found[3]["says"].as_str().unwrap().contains("docs/kinesis.md") && found[2]["answer"] == "granted",
        "{found}"
    );

    for reader in ["fan_out", "auto"] {
        let told = job.must(&[&live[..], &["--set", &format!("stream.reader={reader}")]].concat());
        let is_told = |answer: &str, action: &str| {
            told.lines()
                .any(|line| line.starts_with(&format!("{answer} kinesis:{action} on arn:aws:kinesis:eu-west-1:")))
        };
        assert!(is_told("ok        ", "GetRecords") && is_told("ok        ", "DescribeStreamConsumer"), "{told}");
        for action in ["RegisterStreamConsumer", "SubscribeToShard"] {
            assert!(is_told("not asked ", action), "{action}: {told}");
        }
    }
    let stream = cloud.client.describe_stream_summary().stream_name("transactions").send();
    let arn = cloud.block_on(stream).unwrap().stream_description_summary.unwrap().stream_arn;
    let consumers = cloud.block_on(cloud.client.list_stream_consumers().stream_arn(arn).send()).unwrap();
    assert!(consumers.consumers().is_empty(), "{consumers:?}");
    let denied = Does::Answer { status: 400, code: "AccessDeniedException".into(), message: None };
    cloud.faults.add("DescribeStreamConsumer", denied);
    let said = text(&job.run(&[&live[..], &["--set", "stream.reader=fan_out"]].concat()).stdout);
    assert!(said.contains("refused    kinesis:DescribeStreamConsumer on") && said.contains("/consumer/*"), "{said}");

    let embedded = Scratch::new().run(&live);
    assert!(embedded.status.success() && text(&embedded.stderr).contains("nothing is to be asked"));
    assert_eq!(Scratch::new().run(&["check", "--json"]).status.code(), Some(2));
    let nobody = cloud.job().run(&live);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stdout).contains("no AWS credentials were found"), "{}", text(&nobody.stdout));
}
