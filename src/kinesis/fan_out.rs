//! Reading one shard by subscriptions (SubscribeToShard): records are pushed, and no other reader shares the throughput.
//!
//! The one law: what a subscription brings joins what was handed over before it, whichever way that came; and a shard of
//! which nothing is heard is polled, which is said. Waiting for the pipeline is not silence: nothing is asked of the service
//! then.
//!
//! A subscription goes on where the last one's newest event says it ended, which moves without records, too. That number is
//! never kept: a slot's position is a record that was read, so that a restart can see whether it is still there.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::operation::subscribe_to_shard::SubscribeToShardOutput;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError as Exception;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition, SubscribeToShardEventStream as Event};
use aws_smithy_types::event_stream::RawMessage;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::backoff::{Backoff, Failure, Trouble, words};
use super::client::{Client, apart};
use super::consumer::Consumer;
use super::shard_reader::{Outcome, ShardReader, date_time};
use super::terms::Terms;
use crate::error::Result;
use crate::stream::Position;

/// The subscriptions of one shard.
#[derive(Debug)]
pub struct FanOut {
    client: Client,
    consumer: Arc<Consumer>,
    terms: Terms,
    backoff: Backoff,
    /// When the newest subscription was granted.
    granted_at: Option<Instant>,
    /// How long the shard is polled when it must be the next time.
    polled: Duration,
    /// That it is polled has been said, and has not been better since.
    told: bool,
}

/// Why a shard is not read by subscription any more.
#[derive(Debug)]
pub enum Left {
    /// It is not read at all.
    Over(Outcome),
    /// It is to be polled until then, at least once.
    Polled(Instant),
}

/// What the subscriptions have told since reading by them began.
struct Heard {
    since: Instant,
    /// When the last event had been handed over.
    at: Instant,
    /// Where a subscription goes on, if one has told.
    continuation: Option<String>,
}

/// How a subscription ended.
enum End {
    Over(Outcome),
    /// Another one goes on.
    Renewed,
    /// By itself, before its time. A shard may have ended with it: polling tells.
    Early,
    /// None is to be had.
    Lost(String),
}

impl Heard {
    /// Waits until the pipeline takes more of the shard. Nothing is asked of the service meanwhile: that is no silence.
    async fn may_go_on(&mut self, reader: &mut ShardReader) {
        if reader.paused.over().await {
            self.at = Instant::now();
        }
    }
}

impl FanOut {
    pub fn new(client: &Client, consumer: Arc<Consumer>, terms: Terms, shard: &str) -> Self {
        Self {
            client: if terms.own_connection { apart(client) } else { client.clone() },
            consumer,
            terms,
            backoff: Backoff::new(client, shard),
            granted_at: None,
            polled: terms.polled[0],
            told: false,
        }
    }

    /// Reads until the shard's end, until nobody takes the events, or until it has to be polled.
    pub async fn read(&mut self, reader: &mut ShardReader) -> Result<Left> {
        let now = Instant::now();
        let mut heard = Heard { since: now, at: now, continuation: None };
        loop {
            heard.may_go_on(reader).await;
            reader.refuse_gap().await?;
            let end = match self.subscribe(reader, &heard).await {
                Ok(subscription) => self.listen(reader, subscription, &mut heard).await,
                Err(why) => End::Lost(why),
            };
            match end {
                End::Over(outcome) => return Ok(Left::Over(outcome)),
                End::Renewed => {}
                End::Early => return Ok(Left::Polled(Instant::now())),
                End::Lost(why) => return Ok(Left::Polled(self.give_up(reader, &why))),
            }
        }
    }

    /// A subscription, or why there is none.
    async fn subscribe(&mut self, reader: &ShardReader, heard: &Heard) -> Result<SubscribeToShardOutput, String> {
        let arn = self.consumer.arn().await;
        let mut refusal = String::from("no answer");
        let silent_at = heard.at + self.terms.silence_max;
        let asking = self.ask(reader, &arn, starting_position(&reader.position, heard), &mut refusal);
        match timeout_at(silent_at, asking).await {
            Ok(Ok(subscription)) => Ok(subscription),
            Ok(Err(failure)) if failure.trouble == Trouble::NotFound => {
                // Polling tells whether the shard is gone. A consumer that was removed is registered, and found when this is
                // tried again.
                match timeout_at(silent_at, self.consumer.again(&arn)).await {
                    Ok(Err(error)) => Err(format!("{failure}; {error}")),
                    Ok(Ok(())) | Err(_) => Err(failure.to_string()),
                }
            }
            Ok(Err(failure)) if failure.trouble == Trouble::Refused => {
                Err(format!("{failure}; subscribing needs `kinesis:SubscribeToShard` on `{arn}`"))
            }
            Ok(Err(failure)) => Err(failure.to_string()),
            Err(_) => Err(format!("no subscription within {:?} ({refusal})", self.terms.silence_max)),
        }
    }

    /// Asks until a subscription is granted or refused for good.
    async fn ask(
        &mut self,
        reader: &ShardReader,
        arn: &str,
        start: StartingPosition,
        refusal: &mut String,
    ) -> Result<SubscribeToShardOutput, Failure> {
        let request = self.client.subscribe_to_shard().consumer_arn(arn).shard_id(&*reader.key.shard);
        let request = request.starting_position(start);
        loop {
            if let Some(granted_at) = self.granted_at {
                sleep_until(granted_at + self.terms.interval).await;
            }
            let failure = match request.clone().send().await {
                Ok(subscription) => {
                    self.granted_at = Some(Instant::now());
                    return Ok(subscription);
                }
                Err(error) => Failure::of(&error, &self.client.site()),
            };
            // In use: an earlier subscription, of this job or the one before it, is younger than five seconds.
            if !matches!(failure.trouble, Trouble::Transient | Trouble::InUse) {
                return Err(failure);
            }
            tracing::debug!("subscribing to `{}`: {failure}", reader.key);
            *refusal = failure.to_string();
            sleep(self.backoff.delay()).await;
        }
    }

    /// Hands over what one subscription brings.
    async fn listen(
        &mut self,
        reader: &mut ShardReader,
        mut subscription: SubscribeToShardOutput,
        heard: &mut Heard,
    ) -> End {
        let renew_at = Instant::now() + self.terms.renew_after;
        let mut is_silent = true;
        loop {
            heard.may_go_on(reader).await;
            let silent_at = heard.at + self.terms.silence_max;
            let event = match timeout_at(silent_at.min(renew_at), subscription.event_stream.recv()).await {
                Ok(Ok(Some(event))) => event,
                Ok(Ok(None)) if is_silent => return End::Lost("a subscription ended without an event".to_owned()),
                Ok(Ok(None)) => return End::Early,
                Ok(Err(error)) => return self.failed(reader, Failure::from(error)).await,
                Err(_) if renew_at < silent_at => return End::Renewed,
                Err(_) => return End::Lost(format!("no event for {:?}", self.terms.silence_max)),
            };
            // Kinds of events that are not known yet are signs of life.
            if let Event::SubscribeToShardEvent(event) = event {
                reader.answered(Some(event.millis_behind_latest));
                let continuation = Some(event.continuation_sequence_number).filter(|number| !number.is_empty());
                // A server of our own may name the children before the last records are read.
                let ended = event.child_shards.as_ref().is_some_and(|children| !children.is_empty())
                    && (continuation.is_none() || event.records.is_empty());
                let bytes = event.records.iter().map(|record| record.data.as_ref().len()).sum();
                // How large an event is, is known when it is there: one of each shard waits for room beyond the bound.
                let share = reader.in_flight.reserve(bytes).await;
                if !reader.hand_over(event.records, share, Some(event.millis_behind_latest), ended).await {
                    return End::Over(Outcome::Abandoned);
                }
                if ended {
                    return End::Over(reader.ended(event.child_shards));
                }
                heard.continuation = continuation.or_else(|| heard.continuation.take());
            }
            heard.at = Instant::now();
            is_silent = false;
            self.lasts(reader, heard);
            if heard.at >= renew_at {
                return End::Renewed;
            }
        }
    }

    /// The events broke off.
    async fn failed(&mut self, reader: &ShardReader, failure: Failure) -> End {
        match failure.trouble {
            Trouble::Transient => {
                tracing::warn!("subscribed to `{}`: {failure}; subscribing again", reader.key);
                sleep(self.backoff.delay()).await;
                End::Renewed
            }
            // Taking it back would be taken back in turn.
            Trouble::InUse => End::Lost(format!(
                "another reader subscribes as consumer `{}` ({failure}); give each its own `stream.consumer`",
                self.consumer.name()
            )),
            _ => End::Lost(failure.to_string()),
        }
    }

    /// Subscribing has worked for longer than it was given up for: the next time is a first one.
    fn lasts(&mut self, reader: &ShardReader, heard: &Heard) {
        self.backoff.reset();
        if heard.at - heard.since >= self.polled {
            if self.told {
                tracing::info!("`{}` is read by subscription again", reader.key);
            }
            self.told = false;
            self.polled = self.terms.polled[0];
        }
    }

    /// Says that the shard is polled, and until when.
    fn give_up(&mut self, reader: &ShardReader, why: &str) -> Instant {
        if self.terms.own_connection {
            // The connection may be what is dead, and the next subscription would wait for it.
            self.client = apart(&self.client);
        }
        let polled = self.polled;
        self.polled = (polled * 2).min(self.terms.polled[1]);
        if self.told {
            tracing::debug!("`{}` is polled for {polled:?} more: {why}", reader.key);
        } else {
            tracing::warn!("`{}` is polled, and subscribed to again after {polled:?}: {why}", reader.key);
            self.told = true;
        }
        Instant::now() + polled
    }
}

/// Where a subscription begins. A continuation is `AT`, not `AFTER`: some servers name the record they sent last and some the
/// next one, nothing is passed over either way, and what comes twice is not handed over twice.
fn starting_position(position: &Position, heard: &Heard) -> StartingPosition {
    let of = |kind| StartingPosition::builder().r#type(kind);
    let start = match (&heard.continuation, position) {
        (Some(number), _) => of(ShardIteratorType::AtSequenceNumber).sequence_number(number),
        (None, Position::TrimHorizon) => of(ShardIteratorType::TrimHorizon),
        (None, Position::AtTimestamp(time)) => of(ShardIteratorType::AtTimestamp).timestamp(date_time(*time)),
        (None, Position::After(number)) => {
            of(ShardIteratorType::AfterSequenceNumber).sequence_number(number.to_string())
        }
    };
    start.build().expect("its type is given")
}

impl From<SdkError<Exception, RawMessage>> for Failure {
    fn from(error: SdkError<Exception, RawMessage>) -> Self {
        let trouble = match error.as_service_error() {
            // The connection or an event broke.
            None => Trouble::Transient,
            Some(Exception::ResourceInUseException(_)) => Trouble::InUse,
            Some(Exception::ResourceNotFoundException(_)) => Trouble::NotFound,
            Some(
                Exception::KmsAccessDeniedException(_)
                | Exception::KmsDisabledException(_)
                | Exception::KmsInvalidStateException(_)
                | Exception::KmsNotFoundException(_)
                | Exception::KmsOptInRequired(_),
            ) => Trouble::Refused,
            Some(_) => Trouble::Transient,
        };
        Self::new(trouble, words(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::SequenceNumber;

    #[test]
    fn a_subscription_begins_at_the_last_continuation_else_after_the_last_record() {
        let after = Position::After(SequenceNumber::Kinesis("7".into()));
        let start = |position, continuation: Option<&str>| {
            let now = Instant::now();
            let heard = Heard { since: now, at: now, continuation: continuation.map(str::to_owned) };
            let start = starting_position(position, &heard);
            (start.r#type, start.sequence_number)
        };
        assert_eq!(start(&after, None), (ShardIteratorType::AfterSequenceNumber, Some("7".into())));
        assert_eq!(start(&after, Some("9")), (ShardIteratorType::AtSequenceNumber, Some("9".into())));
        assert_eq!(start(&Position::TrimHorizon, None), (ShardIteratorType::TrimHorizon, None));
        assert_eq!(start(&Position::AtTimestamp(1), None), (ShardIteratorType::AtTimestamp, None));
    }
}
