//! Which stream this is: the one the lake has read, one made anew, or one whose rows were not meant for this lake.
//!
//! The one law: a setting that was forgotten neither brings made-up rows into a lake of real ones nor gives up the positions
//! of a stream that lasts. The embedded stream is what everybody has who sets nothing, so it is the one that must be asked
//! for: by `--demo` in a lake on S3, by `--accept-new-stream` where another stream was read. It is refused before anything
//! is written. What an embedded stream held is gone with its process; the next one takes its place without a word.

use super::recover::{Recovered, restore_watermarks};
use super::{Feed, Input, Job, input};
use crate::config::Endpoint;
use crate::epoch::{Kind, Slot, SlotLog, SourceProgress};
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::stream::SourceId;

/// Begins the incarnation of a stream that lives in the process that reads it. Such a stream has an ARN like any other.
const EMBEDDED: &str = "embedded ";

/// What tells the job's stream from another of the same name, by what its server says of it.
pub(super) fn incarnation(job: &Job, of_stream: String) -> String {
    match job.config.stream.endpoint {
        Endpoint::Embedded => format!("{EMBEDDED}{of_stream}"),
        Endpoint::Aws | Endpoint::Url(_) => of_stream,
    }
}

/// Refuses the embedded stream where it was probably not meant, before anything of the lake is changed.
///
/// # Errors
/// [`Error::Usage`] saying why and how to go on; [`Error::External`] when the lake does not answer.
pub(super) async fn refuse_embedded(job: &Job) -> Result<()> {
    let Input::Stream(feed) = &job.input else { return Ok(()) };
    if job.config.stream.endpoint != Endpoint::Embedded {
        return Ok(());
    }
    let lake = &job.config.lake.url;
    if lake.starts_with("s3://") && !job.demo {
        let made_up = if matches!(feed, Feed::Simulate) { ", and so would be its rows" } else { "" };
        return Err(Error::usage(format!(
            "the lake `{lake}` is on S3, but `stream.endpoint` is \"embedded\": the stream would be one of this process{made_up}. \
             Set `stream.endpoint` (\"aws\", or a URL) to read yours, give files by `--source FILE`, or add `--demo` if this \
             is meant"
        )));
    }
    if job.accept_new_stream {
        return Ok(());
    }
    let head = SlotLog::new(Lake::open(lake, &job.config.s3)?.store()).head().await?;
    match head.as_ref().and_then(|head| displaced(head, feed, &input::stream_source(job))) {
        None => Ok(()),
        Some((source, incarnation)) => Err(refusal(source, incarnation, feed)),
    }
}

/// A lasting stream the lake has read, whose place the embedded one would take or whose rows would be mixed with made-up ones.
fn displaced<'a>(head: &'a Slot, feed: &Feed, ours: &SourceId) -> Option<(&'a SourceId, &'a str)> {
    let simulated = matches!(feed, Feed::Simulate);
    let mut read = head.sources.iter().filter(|(source, _)| simulated || *source == ours);
    read.find_map(|(source, progress)| Some((source, progress.incarnation.as_str())).filter(|(_, told)| lasts(told)))
}

/// Files have no incarnation.
fn lasts(incarnation: &str) -> bool {
    !incarnation.is_empty() && !incarnation.starts_with(EMBEDDED)
}

fn refusal(source: &SourceId, incarnation: &str, feed: &Feed) -> Error {
    let harm = match feed {
        Feed::Simulate => "simulated rows would be mixed with its rows",
        Feed::Replay(_) | Feed::Others => "how far it was read would be forgotten",
    };
    Error::usage(format!(
        "this lake has read the stream `{source}` ({incarnation}), but `stream.endpoint` is \"embedded\": {harm}. Set \
         `stream.endpoint` to go on with that stream, or use another `lake.url`; `--accept-new-stream` does so all the same"
    ))
}

/// Compares the stream with the one the slots know; a stream made anew starts over in a slot that says so.
///
/// # Errors
/// [`Error::Usage`] for another stream than the slots know, unless it is accepted; [`Error::Fenced`] when another writer
/// owns the next slot.
pub(super) async fn meet_stream(
    job: &Job,
    recovered: &mut Recovered,
    source: &SourceId,
    incarnation: String,
) -> Result<()> {
    let known = recovered.base.sources.get(source).map(|s| s.incarnation.clone());
    let anew = SourceProgress { incarnation: incarnation.clone(), ..SourceProgress::default() };
    match known {
        Some(known) if known == incarnation => Ok(()),
        // A stream never read before is named by the first epoch that reads from it.
        None => {
            let mut base = recovered.base.clone();
            base.sources.insert(source.clone(), anew);
            let watermarks = restore_watermarks(job, &base);
            recovered.engine.rebase(base, watermarks);
            Ok(())
        }
        Some(known) if job.accept_new_stream || !(lasts(&known) || lasts(&incarnation)) => {
            let mut slot = recovered.base.next(&recovered.writer, Kind::NewStream, job.clock.now())?;
            slot.sources.insert(source.clone(), anew);
            recovered.lake.slots.decide(&slot).await?.ours()?;
            recovered.base = slot;
            recovered.engine.rebase(recovered.base.clone(), restore_watermarks(job, &recovered.base));
            Ok(())
        }
        Some(known) if !lasts(&known) => Err(Error::usage(format!(
            "what this lake has read as `{source}` was an embedded stream, whose rows may be simulated: read `{}` into another \
             `lake.url`, or go on in this one by `--accept-new-stream`",
            job.config.stream.name
        ))),
        Some(known) => Err(Error::usage(format!(
            "the stream `{}` is not the one this lake has read ({known}): it was deleted and made anew. What the old one \
             still held is gone; go on with the new one by `--accept-new-stream`, or use another `lake.url`",
            job.config.stream.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::epoch::{TokenKeyName, Writer};

    fn head(sources: &[(&str, &str)]) -> Slot {
        let writer = Writer { id: Uuid::nil(), generation: 0, host: "a".into() };
        let mut slot = Slot::first(&writer, TokenKeyName { version: 1, fingerprint: "k".into() }, 0);
        for (source, incarnation) in sources {
            let progress = SourceProgress { incarnation: (*incarnation).into(), ..SourceProgress::default() };
            slot.sources.insert((*source).into(), progress);
        }
        slot
    }

    #[test]
    fn an_embedded_stream_takes_no_other_streams_place_and_made_up_rows_no_place_beside_it() {
        let aws = "arn:aws:kinesis:us-east-1:123456789012:stream/s@1";
        let embedded = "embedded arn:aws:kinesis:us-east-1:000000000007:stream/s@1";
        let replay = Feed::Replay("f.csv".into());
        for (sources, simulated, replayed) in [
            (&[][..], false, false),
            (&[("files", ""), ("kinesis:s", embedded)], false, false),
            (&[("kinesis:s", aws)], true, true),
            // Its positions stay, its rows would have strange company.
            (&[("kinesis:other", aws), ("kinesis:s", embedded)], true, false),
        ] {
            let head = head(sources);
            let found = |feed| displaced(&head, feed, &"kinesis:s".into()).is_some();
            assert_eq!((found(&Feed::Simulate), found(&replay)), (simulated, replayed), "{sources:?}");
        }
    }
}
