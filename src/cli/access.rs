//! `lakeward check --live`: whether these credentials may do what the job will do, asked by calls that change nothing.
//!
//! The one law: no stream, fence or slot is made; the one object that the lake is asked with is gone afterwards.

use std::process::ExitCode;

use super::output::{answer, say};
use crate::catalog::Catalog;
use crate::config::{Config, Endpoint, Reader};
use crate::error::{Context, Result};
use crate::kinesis::{access, connect};
use crate::lake::Lake;
use crate::permission::{Answer, Permission};
use crate::plain::Place;

/// Asks for every permission and prints each; exit code 2 when one is refused, 1 when one was not answered.
pub(super) async fn ask(config: &Config, is_json: bool) -> Result<ExitCode> {
    let mut found = stream(config).await?;
    found.extend(lake(config).await?);
    match is_json {
        true => answer(&serde_json::to_string(&found).context(|| "writing the permissions")?)?,
        false => found.iter().try_for_each(|permission| answer(&shown(permission)))?,
    }
    Ok(code(&found))
}

async fn stream(config: &Config) -> Result<Vec<Permission>> {
    let stream = &config.stream;
    if stream.endpoint == Endpoint::Embedded {
        say("the stream is one of the job's own process: nothing is to be asked");
        return Ok(Vec::new());
    }
    say(&format!("asking for one record of the stream `{}`: one call of the five a second of its shard", stream.name));
    let client = connect(stream, None).await?;
    let consumer = (stream.reader != Reader::Polling).then(|| config.consumer_name());
    Ok(access::ask(&client, &stream.name, consumer).await)
}

async fn lake(config: &Config) -> Result<Vec<Permission>> {
    let lake = Lake::open_existing(&config.lake.url, &config.s3)?;
    if lake.as_ref().is_none_or(Lake::has_lock) {
        say("the lake is in a folder: nothing is to be asked");
    }
    let Some(lake) = lake else { return Ok(Vec::new()) };
    let mut found = lake.ask().await;
    if let Some(place) = Place::existing(&config.plain, &config.s3, &lake)? {
        found.extend(place.ask().await);
    }
    if let Some(catalog) = Catalog::of(&config.catalog, &lake).await? {
        found.push(catalog.ask().await);
    }
    Ok(found)
}

fn shown(permission: &Permission) -> String {
    let Permission { action, on, answer } = permission;
    match answer {
        Answer::Granted => format!("ok         {action} on {on}"),
        Answer::Refused(why) => format!("refused    {action} on {on}\n           {why}"),
        Answer::Failed(why) => format!("no answer  {action} on {on}\n           {why}"),
        Answer::NotAsked(why) => format!("not asked  {action} on {on}: {why}"),
    }
}

fn code(found: &[Permission]) -> ExitCode {
    let any = |is: fn(&Answer) -> bool| found.iter().any(|permission| is(&permission.answer));
    match () {
        () if any(|answer| matches!(answer, Answer::Refused(_))) => ExitCode::from(2),
        () if any(|answer| matches!(answer, Answer::Failed(_))) => ExitCode::FAILURE,
        () => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_outweighs_silence() {
        let of = |answers: &[Answer]| {
            let on = |answer: &Answer| Permission { action: "a".into(), on: "b".into(), answer: answer.clone() };
            format!("{:?}", code(&answers.iter().map(on).collect::<Vec<_>>()))
        };
        let [refused, failed, not_asked] = [Answer::Refused, Answer::Failed, Answer::NotAsked].map(|of| of("c".into()));
        let shown = |code: ExitCode| format!("{code:?}");
        assert_eq!(of(&[Answer::Granted, not_asked.clone()]), shown(ExitCode::SUCCESS));
        assert_eq!(of(&[Answer::Granted, failed.clone()]), shown(ExitCode::FAILURE));
        assert_eq!(of(&[failed, refused, not_asked]), shown(ExitCode::from(2)));
    }
}
