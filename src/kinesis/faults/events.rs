//! What a fault does to the events of a subscription.
//!
//! The one law: events go on as they come and are never gathered; before its place a fault changes nothing. A subscription
//! that ended before that place was not struck.
//!
//! The embedded server sends its answer in pieces: one that begins it, then one an event.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind};

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::Bytes;
use ferrokinesis::event_stream::encode_exception;
use futures::StreamExt;
use futures::stream::unfold;

use super::{Does, Faults};

/// What the service may say in place of an event.
pub(super) const EXCEPTIONS: [&str; 9] = [
    "InternalFailureException",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSInvalidStateException",
    "KMSNotFoundException",
    "KMSOptInRequired",
    "KMSThrottlingException",
    "ResourceInUseException",
    "ResourceNotFoundException",
];

/// A fault's strike, until it has happened: it is taken back when the subscription ends before.
struct Strike {
    faults: Faults,
    place: usize,
    happened: bool,
}

impl Drop for Strike {
    fn drop(&mut self) {
        if !self.happened {
            self.faults.missed(self.place);
        }
    }
}

/// An answer on its way.
struct Changed {
    does: Does,
    strike: Strike,
    pieces: BodyDataStream,
    /// Passed on, the answer's beginning among them.
    passed: u64,
    ready: VecDeque<Result<Bytes, Error>>,
    over: bool,
}

/// The same answer, struck after as many events as the fault says.
pub(super) fn changed(does: Does, answer: Response, faults: &Faults, place: usize) -> Response {
    let strike = Strike { faults: faults.clone(), place, happened: false };
    if !answer.status().is_success() {
        return answer;
    }
    let (parts, body) = answer.into_parts();
    let pieces = body.into_data_stream();
    let changed = Changed { does, strike, pieces, passed: 0, ready: VecDeque::new(), over: false };
    let pieces = unfold(changed, |mut changed| async {
        let piece = changed.next().await?;
        Some((piece, changed))
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}

impl Changed {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            if self.over {
                return None;
            }
            if !self.strike.happened && self.passed == 1 + events(&self.does) {
                self.strike.happened = true;
                self.strike().await?;
            } else {
                let piece = self.pieces.next().await?;
                self.passed += 1;
                self.ready.push_back(piece.map_err(Error::other));
            }
        }
    }

    /// Does it, now.
    async fn strike(&mut self) -> Option<()> {
        self.over = !matches!(self.does, Does::RepeatAfter(_));
        match &self.does {
            Does::CutAfter(_) => {
                let event = self.pieces.next().await?.ok()?;
                self.ready.push_back(Ok(event.slice(..event.len() / 2)));
                self.ready.push_back(Err(Error::new(ErrorKind::ConnectionReset, "by the script of faults")));
            }
            Does::SilentAfter(_) => std::future::pending().await,
            Does::FailAfter { code, .. } => {
                let code = EXCEPTIONS.into_iter().find(|exception| exception == code)?;
                self.ready.push_back(Ok(encode_exception(code, "by the script of faults").into()));
            }
            Does::RepeatAfter(_) => {
                let event = self.pieces.next().await?.ok()?;
                self.ready.extend([Ok(event.clone()), Ok(event)]);
            }
            _ => {}
        }
        Some(())
    }
}

/// Events before it.
fn events(does: &Does) -> u64 {
    match does {
        Does::EndAfter(events)
        | Does::CutAfter(events)
        | Does::SilentAfter(events)
        | Does::RepeatAfter(events)
        | Does::FailAfter { events, .. } => *events,
        _ => 0,
    }
}
