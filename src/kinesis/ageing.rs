//! How much of the stream's retention the unread records of a shard have used up, and when to say so.
//!
//! The one law: nobody is surprised by a loss. Each level is told once when it is reached, and again only after the shard has
//! been clearly below it.

use std::time::Duration;

use tokio::sync::watch;

use super::retention::holds_since;
use crate::clock::{MICROS_PER_SECOND, Micros, show_time};
use crate::stream::{ShardKey, Unread, UnreadShards};

/// Percents of the retention at which it is told. Half of it leaves a day's retention half a day to act in.
const LEVELS: [Micros; 3] = [50, 75, 90];

/// Percents below a level at which it counts as left: a reader that comes and goes around it says so once.
const SLACK: Micros = 5;

/// How long an iterator lives: who asks anew within it reads on as between two calls, along the edge of the retention, too.
const ITERATOR_LIFE: Micros = 300 * MICROS_PER_SECOND;

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
    /// The stream's, microseconds; it may be changed at any time.
    retention: watch::Receiver<Micros>,
    all: UnreadShards,
    alarm: Alarm,
    /// `None` when nothing is known.
    heard: Option<Heard>,
}

/// What was last heard of a shard: when, and since when what was unread then had arrived (microseconds, UTC).
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Micros,
    unread_since: Micros,
}

impl Ageing {
    /// Of a shard that has not answered yet, with what a slot knows of it; `all` is told what is found.
    pub fn new(
        shard: ShardKey,
        retention: watch::Receiver<Micros>,
        all: UnreadShards,
        unread_since: Option<Micros>,
    ) -> Self {
        let heard = unread_since.map(|since| Heard { at: since, unread_since: since });
        Self { shard, retention, all, alarm: Alarm::default(), heard }
    }

    /// Whether the stream must still hold what is unread; `None` when nobody knows how old that is. A shard of which nothing
    /// was read yet begins with what there is as long as it answers.
    pub fn is_held(&self, now: Micros, is_read: bool) -> Option<bool> {
        let Heard { at, unread_since } = self.heard?;
        let was_silent = now.saturating_sub(at) >= ITERATOR_LIFE;
        let since = if is_read && was_silent { unread_since } else { at };
        Some(holds_since(since, now, *self.retention.borrow()))
    }

    /// An answer of now says how far behind the tip it is.
    pub fn answered(&mut self, now: Micros, behind_millis: Option<i64>) {
        let Some(behind) = behind_millis else { return };
        let (age, retention) = (behind.max(0).saturating_mul(1_000), *self.retention.borrow());
        let unread = Unread { read_to: now.saturating_sub(age), retention };
        self.heard = Some(Heard { at: now, unread_since: unread.read_to });
        self.all.tell(&self.shard.shard, (age > 0).then_some(unread));
        let (shard, old, kept) = (&self.shard, span(age), span(retention));
        match self.alarm.at(age, retention) {
            Some(News::Reached(level)) => tracing::warn!(
                "`{shard}` is {old} behind, more than {level} % of the {kept} that the stream keeps records: unless it catches \
                 up, records are lost from {} on; lengthen the retention (`aws kinesis \
                 increase-stream-retention-period`), give the job more cores, or look at what slows it",
                show_time(whole_second(now.saturating_add(retention - age)))
            ),
            Some(News::Below) => {
                tracing::info!("`{shard}` is {old} behind, of the {kept} that the stream keeps records");
            }
            None => {}
        }
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

    /// Of a retention of a day.
    #[test]
    fn what_is_unread_is_held_until_it_is_as_old_as_the_retention() {
        const HOUR: Micros = 3_600 * MICROS_PER_SECOND;
        let (_retention, told) = watch::channel(24 * HOUR);
        let shard = ShardKey { source: "kinesis:s".into(), shard: "a".into() };
        let of = |since| Ageing::new(shard.clone(), told.clone(), UnreadShards::default(), since);
        let held = |ageing: &Ageing, hours| [true, false].map(|is_read| ageing.is_held(hours * HOUR, is_read));
        assert_eq!(held(&of(None), 1), [None; 2]);
        let mut ageing = of(Some(HOUR));
        assert_eq!(held(&ageing, 24), [Some(true); 2]);
        assert_eq!(held(&ageing, 25), [Some(false); 2]);
        // A first start reads the oldest there is; of a shard that falls silent then, that has expired soon.
        ageing.answered(30 * HOUR, Some(24 * 3_600_000));
        assert_eq!(held(&ageing, 30), [Some(true); 2]);
        assert_eq!(held(&ageing, 31), [Some(false), Some(true)]);
        assert_eq!(held(&ageing, 54), [Some(false); 2]);
    }

    #[test]
    fn a_reader_that_ends_is_behind_no_more() {
        let all = UnreadShards::default();
        let (_retention, told) = watch::channel(1_000_000);
        let shard = ShardKey { source: "kinesis:s".into(), shard: "a".into() };
        let mut ageing = Ageing::new(shard, told, all.clone(), None);
        ageing.answered(2_000_000, Some(600));
        let (_, unread) = all.oldest(2_000_000).unwrap();
        assert_eq!((unread.age(2_000_000), unread.share(2_000_000)), (600_000, 0.6));
        ageing.answered(3_000_000, Some(0));
        assert_eq!(all.oldest(3_000_000), None);
        ageing.answered(3_000_000, Some(1));
        drop(ageing);
        assert_eq!(all.oldest(3_000_000), None);
    }
}
