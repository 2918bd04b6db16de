//! How fast a shard may be read, and how fast it is.
//!
//! The one law: a shard's own limits (5 calls and 2 MB a second, shared by all its readers) are never reached by us, so
//! that throttling is the exception. The next call waits for the last one's bytes: a 10 MiB answer costs five seconds.
//! Who is throttled all the same is not alone with the shard, and takes less of it. However a call is answered, the next one
//! comes no sooner than the interval.
//!
//! Within the limits a shard is read as fast as they allow while it holds more than was answered; once a tick, or sooner the
//! fuller answers are, while records come; and ever more seldom while none do: the next look comes after a part of the
//! silence, so that a record waits for no more than that part of the time in which nothing came.
//!
//! Pure: times are arguments.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Endpoint;

/// Bytes of records an answer should hold at most: below the 10 MiB an answer may have, so that few are cut short. (How
/// large the next records are is guessed from the last ones.)
pub(super) const ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of records asked for where few are expected, a megabyte a second being what a shard takes in: those of a tick. An
/// answer that holds so many is followed by one that may hold twice as many.
const ANSWER_BYTES_LEAST: usize = 256 * 1024;

/// Bytes of a record before the first one is known: so `Limit` of the first call is 500.
const RECORD_BYTES_GUESSED: usize = ANSWER_BYTES / 500;

/// The part of a silence after which a silent shard is looked at again. Waits grow by a quarter each: from a quarter of a
/// second to five seconds in fourteen looks.
const SILENCE_PARTS: u32 = 4;

/// How many times longer all waits become, at most, while a shard is throttled. So five readers of one on AWS have a call a
/// second each.
const STRETCH_MAX: u32 = 4;

/// How long a shard is read without being throttled before it is read twice as fast again. Two readers that have found their
/// pace are throttled about once a minute by trying more.
const CALM: Duration = Duration::from_secs(60);

/// What the server of a shard may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Least time between two calls on one shard.
    pub call_interval: Duration,
    /// Bytes of records a second and shard; `None`: as many as there are.
    pub bytes_per_second: Option<u64>,
    /// Records a call, at most 10,000.
    pub limit: usize,
}

impl Pacing {
    /// Within AWS's limits: 4 of 5 calls a second, 2 MB a second.
    pub const AWS: Self =
        Self { call_interval: Duration::from_millis(250), bytes_per_second: Some(2_000_000), limit: 10_000 };

    /// A server of our own has no limits to keep; the interval only bounds the cost of empty pages (4,096 records every
    /// 5 ms are eight hundred thousand a second and shard). Pages are as long as those of files: larger answers leave the
    /// caches, and beyond 8 MiB the allocator gives each back to the system and takes the next from there.
    pub const LOCAL: Self = Self { call_interval: Duration::from_millis(5), bytes_per_second: None, limit: 4_096 };

    /// What the endpoint's server allows.
    pub fn for_endpoint(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Aws => Self::AWS,
            Endpoint::Embedded | Endpoint::Url(_) => Self::LOCAL,
        }
    }

    /// The least time between a call that was answered by so many bytes and the next one.
    pub fn wait_after(&self, bytes: usize) -> Duration {
        let for_bytes = self.bytes_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_micros((bytes as u64).saturating_mul(1_000_000).div_ceil(rate.max(1)))
        });
        for_bytes.max(self.call_interval)
    }
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Records, at most.
    pub limit: usize,
    /// Bytes that so many are expected to have.
    pub bytes: usize,
}

/// What a call was answered, as far as it tells the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub records: usize,
    /// Of all records.
    pub bytes: usize,
    /// The service says that the shard holds more.
    pub behind: bool,
}

/// The pace of one shard's reader.
#[derive(Debug)]
pub struct Pace {
    pacing: Pacing,
    /// The wait while records come, and the longest while none do.
    tick: Duration,
    idle_max: Duration,
    /// Of one record, by the last answer that held any.
    record_bytes: usize,
    /// To be asked for next.
    answer_bytes: usize,
    /// When records came last; before the first ones, when reading began.
    silent_since: Instant,
    /// How many times longer the waits are than the pacing's, because others read the shard, too.
    stretch: u32,
    /// When it was throttled last, or read faster after that; `None` when that is over.
    strained_at: Option<Instant>,
    /// No call is made before.
    due: Instant,
}

impl Pace {
    /// A shard that begins to be read at `now`: its first call may ask for as much as an answer holds.
    pub fn new(pacing: Pacing, tick: Duration, idle_max: Duration, now: Instant) -> Self {
        Self {
            pacing,
            tick,
            idle_max: idle_max.max(tick),
            record_bytes: RECORD_BYTES_GUESSED,
            answer_bytes: ANSWER_BYTES,
            silent_since: now,
            stretch: 1,
            strained_at: None,
            due: now,
        }
    }

    /// What the server may be asked for.
    pub fn pacing(&self) -> Pacing {
        self.pacing
    }

    /// What the next call asks for.
    pub fn ask(&self) -> Ask {
        let limit = self.records_in(self.answer_bytes);
        Ask { limit, bytes: limit.saturating_mul(self.record_bytes) }
    }

    /// When the next call is to be made.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// A call is made now: whatever becomes of it, the next one comes an interval later.
    pub fn call(&mut self, now: Instant) {
        self.due = now + self.wait_after(0);
    }

    /// The call made at `called` was throttled. The next one comes an interval later, and the part `drawn` (0 to 1) of another, so
    /// that two readers do not stay in step. Returns whether that is news: the first time of a row, which ends when the shard has
    /// been read at full pace for a while.
    pub fn throttled(&mut self, called: Instant, drawn: f64) -> bool {
        self.stretch = (self.stretch * 2).min(STRETCH_MAX);
        self.due = called + self.wait_after(0).mul_f64(1.0 + drawn);
        self.strained_at.replace(called).is_none()
    }

    /// Takes note of the answer to the last call, made at `called`, and says when the next one is to be made.
    pub fn answered(&mut self, called: Instant, answer: Answered) -> Instant {
        let Answered { records, bytes, behind } = answer;
        let is_full = records >= self.ask().limit;
        if let Some(record_bytes) = bytes.checked_div(records) {
            self.record_bytes = record_bytes.max(1);
            self.silent_since = called;
        }
        self.answer_bytes = match (behind, is_full) {
            (true, _) => ANSWER_BYTES,
            (false, true) => self.answer_bytes.saturating_mul(2),
            (false, false) => bytes.saturating_mul(2),
        }
        .clamp(ANSWER_BYTES_LEAST, ANSWER_BYTES);
        let wait = match (behind || is_full, records) {
            (true, _) => Duration::ZERO,
            (false, 0) => self.wait_in_silence(called),
            (false, _) => self.wait_at_tip(records),
        };
        self.calm_down(called);
        self.due = called + wait.max(self.wait_after(bytes));
        self.due
    }

    /// A call was let through: who has not been throttled for long tries more.
    fn calm_down(&mut self, called: Instant) {
        if self.strained_at.is_some_and(|at| called - at >= CALM) {
            self.strained_at = Some(called).filter(|_| self.stretch > 1);
            self.stretch = (self.stretch / 2).max(1);
        }
    }

    /// The least time between a call that was answered by so many bytes and the next one, as things are.
    fn wait_after(&self, bytes: usize) -> Duration {
        self.pacing.wait_after(bytes) * self.stretch
    }

    /// The fuller an answer was the sooner the next will be, so that a fast stream's records do not lie about for a whole tick.
    fn wait_at_tip(&self, records: usize) -> Duration {
        let most = self.records_in(ANSWER_BYTES);
        self.tick.mul_f64(most.saturating_sub(records) as f64 / most as f64)
    }

    fn wait_in_silence(&self, now: Instant) -> Duration {
        (now.saturating_duration_since(self.silent_since) / SILENCE_PARTS).clamp(self.tick, self.idle_max)
    }

    fn records_in(&self, bytes: usize) -> usize {
        (bytes / self.record_bytes).clamp(1, self.pacing.limit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(250);
    const IDLE_MAX: Duration = Duration::from_secs(2);

    fn pace(pacing: Pacing, now: Instant) -> Pace {
        Pace::new(pacing, TICK, IDLE_MAX, now)
    }

    fn at_tip(records: usize, bytes: usize) -> Answered {
        Answered { records, bytes, behind: false }
    }

    #[test]
    fn four_calls_and_two_megabytes_a_second_on_aws() {
        let now = Instant::now();
        let mut pace = pace(Pacing::AWS, now);
        let behind = |records, bytes| Answered { records, bytes, behind: true };
        assert_eq!(pace.answered(now, behind(0, 0)) - now, Duration::from_millis(250));
        assert_eq!(pace.answered(now, behind(1_000, 100_000)) - now, Duration::from_millis(250));
        assert_eq!(pace.answered(now, behind(10_000, 10_000_000)) - now, Duration::from_secs(5));
    }

    #[test]
    fn the_limit_follows_the_size_of_records_and_how_many_come() {
        let now = Instant::now();
        let mut pace = pace(Pacing::LOCAL, now);
        assert_eq!(pace.ask().limit, 500);
        pace.answered(now, at_tip(500, 500 * 497));
        assert_eq!(pace.ask().limit, 4_096);
        pace.answered(now, at_tip(0, 0));
        assert_eq!(pace.ask().limit, ANSWER_BYTES_LEAST / 497, "few are expected after none");
        pace.answered(now, at_tip(1_000, 1_000 * 497));
        assert_eq!(pace.ask().limit, 2 * ANSWER_BYTES_LEAST / 497, "twice as many after a full answer");
        pace.answered(now, Answered { records: 10, bytes: 10 << 20, behind: true });
        assert_eq!(pace.ask(), Ask { limit: 8, bytes: 8 << 20 });
        pace.answered(now, at_tip(3, 0));
        assert_eq!(pace.ask().limit, 4_096, "empty records");
    }

    #[test]
    fn a_fuller_page_is_followed_sooner() {
        let now = Instant::now();
        let of = |records| {
            let mut pace = pace(Pacing { limit: 4_000, ..Pacing::LOCAL }, now);
            pace.record_bytes = 500;
            (pace.answered(now, at_tip(records, records * 500)) - now).as_millis()
        };
        assert_eq!([of(1), of(1_000), of(2_000), of(4_000)], [249, 187, 125, 5]);
    }

    #[test]
    fn a_silent_shard_is_looked_at_ever_more_seldom_and_one_with_records_at_once_again() {
        let start = Instant::now();
        let mut pace = pace(Pacing::AWS, start);
        let (mut now, mut waits) = (start, Vec::new());
        for _ in 0..15 {
            let due = pace.answered(now, at_tip(0, 0));
            waits.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(waits[..8], [250, 250, 250, 250, 250, 312, 390, 488]);
        assert_eq!(waits[14], 2_000);
        assert_eq!(pace.answered(now, at_tip(1, 500)) - now, TICK.mul_f64(9_999.0 / 10_000.0).max(TICK));
        now += TICK;
        assert_eq!(pace.answered(now, at_tip(0, 0)) - now, TICK);
    }

    #[test]
    fn a_throttled_shard_is_asked_for_less_and_after_a_while_for_more_again() {
        let (start, answer) = (Instant::now(), Answered { records: 100, bytes: 1_000_000, behind: true });
        let mut pace = pace(Pacing::AWS, start);
        let wait = |pace: &mut Pace, now| (pace.answered(now, answer) - now).as_millis();
        assert_eq!(wait(&mut pace, start), 500, "for its bytes");
        let told = [0.0, 0.0, 0.5].map(|drawn| (pace.throttled(start, drawn), (pace.due() - start).as_millis()));
        assert_eq!(told, [(true, 500), (false, 1_000), (false, 1_500)]);
        let waits = [59, 60, 119, 120, 179, 180].map(|second| wait(&mut pace, start + Duration::from_secs(second)));
        assert_eq!(waits, [2_000, 1_000, 1_000, 500, 500, 500]);
        assert!(pace.throttled(start + Duration::from_secs(181), 1.0), "a minute at full pace ended the row");
        pace.call(start + Duration::from_secs(182));
        assert_eq!(pace.due(), start + Duration::from_millis(182_500), "whatever becomes of it");
    }

    fn pacings() -> impl Strategy<Value = Pacing> {
        prop_oneof![Just(Pacing::AWS), Just(Pacing::LOCAL)]
    }

    /// Records there may be, their size, whether the service says that more follow, and how long an answer takes.
    fn answers() -> impl Strategy<Value = Vec<(usize, usize, bool, u64)>> {
        let answer = (0_usize..12_000, 0_usize..40_000, any::<bool>(), 0_u64..3_000);
        prop::collection::vec(prop_oneof![answer, Just((0, 0, false, 20))], 1..80)
    }

    proptest! {
        /// Whatever is answered: no second has more than four calls, nothing waits longer than its bytes and the longest look
        /// away ask for, and a shard with more to give is asked as soon as the limits allow.
        #[test]
        fn the_limits_are_kept_and_used(pacing in pacings(), answers in answers()) {
            let start = Instant::now();
            let mut pace = pace(pacing, start);
            let (mut called, mut calls, mut bytes_read) = (start, Vec::new(), 0);
            for (records, size, behind, took) in answers {
                calls.push(called);
                let ask = pace.ask();
                prop_assert!((1..=pacing.limit).contains(&ask.limit));
                prop_assert!(ask.limit == 1 || ask.bytes <= ANSWER_BYTES);
                let records = records.min(ask.limit);
                let bytes = records * size;
                let due = pace.answered(called, Answered { records, bytes, behind });
                let least = pacing.wait_after(bytes);
                prop_assert!(due >= called + least && due <= called + least.max(IDLE_MAX));
                if behind || records == ask.limit {
                    prop_assert_eq!(due, called + least);
                } else if records > 0 {
                    prop_assert!(due <= called + least.max(TICK));
                }
                bytes_read += bytes;
                // An answer that takes longer than the wait is followed at once.
                called = due.max(called + Duration::from_millis(took));
                if let Some(rate) = pacing.bytes_per_second {
                    let allowed = (called - start).as_secs_f64() * rate as f64;
                    prop_assert!(bytes_read as f64 <= allowed + 1.0);
                }
            }
            for second in calls.windows(5).filter(|_| pacing == Pacing::AWS) {
                prop_assert!(second[4] - second[0] >= Duration::from_secs(1));
            }
        }

        /// However long a shard is silent, a look comes after no more than a quarter of that, a tick at least, and the looks
        /// reach the longest wait.
        #[test]
        fn a_record_waits_for_a_quarter_of_the_silence(tick in 1_u64..1_000, idle_max in 1_u64..10_000, took in 0_u64..50) {
            let (tick, idle_max) = (Duration::from_millis(tick), Duration::from_millis(idle_max));
            let start = Instant::now();
            let mut pace = Pace::new(Pacing::LOCAL, tick, idle_max, start);
            let (mut called, mut before) = (start, Duration::ZERO);
            while called - start < Duration::from_secs(60) {
                let wait = pace.answered(called, at_tip(0, 0)) - called;
                let part = ((called - start) / SILENCE_PARTS).max(tick).max(Pacing::LOCAL.call_interval);
                prop_assert!(wait >= before && wait <= part && wait <= idle_max.max(tick).max(Pacing::LOCAL.call_interval));
                before = wait;
                called += wait.max(Duration::from_millis(took));
            }
            prop_assert_eq!(before, idle_max.max(tick).max(Pacing::LOCAL.call_interval));
        }
    }
}
