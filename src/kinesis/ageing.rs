//! How much of the stream's retention the unread records of a shard have used up, and when to say so.
//!
//! The one law: nobody is surprised by a loss. Each level is told once when it is reached, and again only after the shard has
//! been clearly below it. A shard that does not answer, or that waits for others, grows older as well: each is looked at when
//! it answers, and every minute.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock::{Clock, MICROS_PER_SECOND, Micros, show_time};
use crate::stream::{ShardKey, Unread, UnreadShards};

/// Percents of the retention at which it is told. Half of it leaves a day's retention half a day to act in.
const LEVELS: [Micros; 3] = [50, 75, 90];

/// Time between two looks at a shard of which nothing is heard: a thousandth of the shortest retention is more.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Percents below a level at which it counts as left: a reader that comes and goes around it says so once.
const SLACK: Micros = 5;

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// This level has been reached.
    Reached(Micros),
    /// All levels have been left.
    Below,
}

/// The levels a shard has reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Alarm {
    reached: usize,
}

impl Alarm {
    /// Takes in an age.
    fn at(&mut self, age: Micros, retention: Micros) -> Option<News> {
        let percent = age.saturating_mul(100) / retention.max(1);
        let reached = |percent| LEVELS.iter().filter(|level| percent >= **level).count();
        let (up, down) = (reached(percent), reached(percent.saturating_add(SLACK)));
        let before = self.reached;
        self.reached = before.clamp(up, down);
        match self.reached {
            now if now > before => Some(News::Reached(LEVELS[now - 1])),
            0 if before > 0 => Some(News::Below),
            _ => None,
        }
    }
}

/// How old what is unread of one shard is.
#[derive(Debug)]
pub struct Ageing {
    shard: ShardKey,
    /// All that arrived before this time has been read, says the shard's reader (microseconds, UTC).
    read_to: watch::Receiver<Micros>,
    /// The stream's, microseconds; it may be changed at any time.
    retention: watch::Receiver<Micros>,
    all: UnreadShards,
    clock: Clock,
    look_interval: Duration,
    alarm: Alarm,
}

impl Ageing {
    /// Of a shard that is opened; `all` is told what is found.
    pub fn new(
        shard: ShardKey,
        read_to: watch::Receiver<Micros>,
        retention: watch::Receiver<Micros>,
        all: UnreadShards,
        clock: Clock,
    ) -> Self {
        Self { shard, read_to, retention, all, clock, look_interval: LOOK_INTERVAL, alarm: Alarm::default() }
    }

    /// Looks now, at each answer, and every so often. Cancel by dropping the future: the shard is read no more then.
    pub async fn run(mut self) -> Infallible {
        loop {
            self.look();
            tokio::select! {
                Ok(()) = self.read_to.changed() => {}
                () = sleep(self.look_interval) => {}
            }
        }
    }

    /// Tells everybody how old the shard is, and the log what is news.
    fn look(&mut self) -> Option<News> {
        let unread = Unread { read_to: *self.read_to.borrow_and_update(), retention: *self.retention.borrow() };
        self.all.tell(&self.shard.shard, Some(unread));
        let age = unread.age(self.clock.now());
        let (shard, old, kept) = (&self.shard, span(age), span(unread.retention));
        let news = self.alarm.at(age, unread.retention);
        match news {
            Some(News::Reached(level)) => tracing::warn!(
                "`{shard}` is {old} behind, more than {level} % of the {kept} that the stream keeps records: unless it catches \
                 up, records are lost from {} on; lengthen the retention (`aws kinesis \
                 increase-stream-retention-period`), give the job more cores, or look at what slows it",
                show_time(whole_second(unread.read_to.saturating_add(unread.retention)))
            ),
            Some(News::Below) => {
                tracing::info!("`{shard}` is {old} behind, of the {kept} that the stream keeps records");
            }
            None => {}
        }
        news
    }
}

impl Drop for Ageing {
    fn drop(&mut self) {
        self.all.tell(&self.shard.shard, None);
    }
}

/// A time without what nobody reads.
fn whole_second(micros: Micros) -> Micros {
    micros / MICROS_PER_SECOND * MICROS_PER_SECOND
}

/// A stretch of time as people read it: `13h 20m`, to the minute where it is longer than one.
pub fn span(micros: Micros) -> humantime::FormattedDuration {
    let seconds = Duration::from_micros(micros.max(0).unsigned_abs()).as_secs();
    humantime::format_duration(Duration::from_secs(if seconds < 60 { seconds } else { seconds / 60 * 60 }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicI64;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn each_level_is_told_once_and_again_after_it_was_left() {
        let mut alarm = Alarm::default();
        let mut told = Vec::new();
        // Percents of a retention of 1,000.
        for percent in [0, 49, 50, 60, 49, 51, 74, 75, 89, 90, 99, 86, 90, 84, 90, 46, 44, 0, 95, 0] {
            told.extend(alarm.at(percent * 10, 1_000).map(|news| (percent, news)));
        }
        let expected = [
            (50, News::Reached(50)),
            (75, News::Reached(75)),
            (90, News::Reached(90)),
            (90, News::Reached(90)),
            (44, News::Below),
            (95, News::Reached(90)),
            (0, News::Below),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_longer_retention_quietens_the_alarm_and_no_retention_is_no_division() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.at(600, 1_000), Some(News::Reached(50)));
        assert_eq!(alarm.at(600, 7_000), Some(News::Below));
        assert_eq!(alarm.at(Micros::MAX, 0), Some(News::Reached(90)));
    }

    #[test]
    fn spans_are_told_to_the_minute() {
        let of = |seconds: Micros| span(seconds * 1_000_000).to_string();
        assert_eq!([of(7), of(61), of(48_059), of(86_400)], ["7s", "1m", "13h 20m", "1day"]);
    }

    const HOUR: Micros = 3_600 * MICROS_PER_SECOND;

    /// The ageing of a shard of a stream that keeps records for a day, read to the time 0, which it is; and those who tell it.
    fn of_a_shard() -> (Ageing, Arc<AtomicI64>, [watch::Sender<Micros>; 2]) {
        let time = Arc::new(AtomicI64::new(0));
        let ((read, read_to), (keep, retention)) = (watch::channel(0), watch::channel(24 * HOUR));
        let shard = ShardKey { source: "kinesis:s".into(), shard: "a".into() };
        let clock = Clock::Fixed(time.clone());
        (Ageing::new(shard, read_to, retention, UnreadShards::default(), clock), time, [read, keep])
    }

    #[test]
    fn a_shard_that_does_not_answer_is_told_of_until_it_does_or_ends() {
        let (mut ageing, time, [read, _keep]) = of_a_shard();
        let all = ageing.all.clone();
        let mut look_at = |hour: Micros| {
            time.store(hour * HOUR, Relaxed);
            (ageing.look(), all.oldest(hour * HOUR).map(|(_, unread)| unread.age(hour * HOUR) / HOUR))
        };
        assert_eq!(look_at(0), (None, None));
        assert_eq!(look_at(11), (None, Some(11)));
        assert_eq!(look_at(12), (Some(News::Reached(50)), Some(12)));
        assert_eq!(look_at(22), (Some(News::Reached(90)), Some(22)));
        read.send_replace(23 * HOUR);
        assert_eq!(look_at(23), (Some(News::Below), None));
        assert_eq!(look_at(24), (None, Some(1)));
        drop(ageing);
        assert_eq!(all.oldest(30 * HOUR), None);
    }

    #[tokio::test]
    async fn without_an_answer_it_is_looked_at_all_the_same() {
        let (mut ageing, _, [_read, keep]) = of_a_shard();
        ageing.look_interval = Duration::from_millis(1);
        let all = ageing.all.clone();
        let looking = tokio::spawn(ageing.run());
        let kept = || all.oldest(HOUR).map(|(_, unread)| unread.retention / HOUR);
        for hours in [24, 48] {
            keep.send_replace(hours * HOUR);
            tokio::time::timeout(Duration::from_secs(60), async {
                while kept() != Some(hours) {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .expect("nobody looks");
        }
        looking.abort();
        assert!(looking.await.unwrap_err().is_cancelled());
        assert_eq!(kept(), None);
    }
}
