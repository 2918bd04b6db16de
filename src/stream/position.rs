//! Positions: which shard, and how far into it.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Micros;
use crate::error::{Error, Result};

/// The name of a source as slots, books and rows carry it: `kinesis:<stream name>` or `files`.
pub type SourceId = Arc<str>;

/// A shard's id within its source: Kinesis' own, or a file's identity (path, size, hash of its first 64 KiB).
pub type ShardId = Arc<str>;

/// One shard of one source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardKey {
    pub source: SourceId,
    pub shard: ShardId,
}

impl fmt::Display for ShardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.shard)
    }
}

/// Where a record stands in its shard.
///
/// Kinesis numbers records by decimal numbers of up to 56 digits, compared as numbers; a file's record is numbered by
/// the count of decompressed bytes up to and including its line end, shown zero-padded to 20 digits so that text order is
/// number order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SequenceNumber {
    /// Bytes of a file's content up to the end of the record.
    Offset(u64),
    /// A Kinesis sequence number.
    Kinesis(Arc<str>),
}

/// Digits of a shown offset: `u64::MAX` has 20.
const OFFSET_DIGITS: usize = 20;

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(bytes) => write!(f, "{bytes:0OFFSET_DIGITS$}"),
            Self::Kinesis(number) => f.write_str(number),
        }
    }
}

impl From<SequenceNumber> for String {
    fn from(number: SequenceNumber) -> Self {
        number.to_string()
    }
}

impl TryFrom<String> for SequenceNumber {
    type Error = Error;

    /// Reads back what `Display` wrote. A 20-digit number is an offset: Kinesis' own have 56 digits.
    fn try_from(text: String) -> Result<Self> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::broken(format!("`{text}` is not a sequence number")));
        }
        match text.parse() {
            Ok(bytes) if text.len() == OFFSET_DIGITS => Ok(Self::Offset(bytes)),
            _ => Ok(Self::Kinesis(text.into())),
        }
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SequenceNumber {
    /// Numeric order; Kinesis numbers are compared by length and then digit by digit, leading zeros ignored.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Offset(a), Self::Offset(b)) => a.cmp(b),
            (Self::Kinesis(a), Self::Kinesis(b)) => {
                let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
                a.len().cmp(&b.len()).then_with(|| a.cmp(b))
            }
            (Self::Offset(_), Self::Kinesis(_)) => Ordering::Less,
            (Self::Kinesis(_), Self::Offset(_)) => Ordering::Greater,
        }
    }
}

/// Where reading goes on: everything after this has not been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The oldest record the shard still holds.
    TrimHorizon,
    /// The first record that arrived at or after this time (microseconds, UTC). Where `latest` is resolved to.
    AtTimestamp(Micros),
    /// After this record.
    After(SequenceNumber),
}

impl fmt::Display for Position {
    /// As the books show it: the sequence number, `trim_horizon`, or `at <microseconds>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrimHorizon => f.write_str("trim_horizon"),
            Self::AtTimestamp(micros) => write!(f, "at {micros}"),
            Self::After(sequence) => sequence.fmt(f),
        }
    }
}

/// The records of a shard in `(from, to]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Exclusive.
    pub from: Position,
    /// Inclusive. Equal to `from` when nothing was read.
    pub to: Position,
}

impl Interval {
    /// The interval in which nothing was read.
    pub fn empty(at: Position) -> Self {
        Self { from: at.clone(), to: at }
    }

    /// Joins the interval that follows this one.
    ///
    /// # Errors
    /// [`Error::Broken`] unless `next.from == self.to`: a gap or an overlap.
    pub fn join(&mut self, next: &Interval) -> Result<()> {
        if self.to != next.from {
            return Err(Error::broken(format!(
                "positions do not meet: read up to {:?}, the next page starts after {:?}",
                self.to, next.from
            )));
        }
        self.to = next.to.clone();
        Ok(())
    }
}

/// All that is known of a shard between two epochs, and all a restart needs of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardProgress {
    /// Read up to here.
    pub position: Position,
    /// Its end was seen (a missing `NextShardIterator`, the end of the file).
    pub finished: bool,
    /// The shards it came from by split or merge; empty for a file.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub parents: BTreeSet<ShardId>,
    /// Greatest event time seen less the allowed disorder (microseconds, UTC); `None` before the first row.
    pub watermark: Option<Micros>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offset(bytes: u64) -> Position {
        Position::After(SequenceNumber::Offset(bytes))
    }

    fn kinesis(number: &str) -> SequenceNumber {
        SequenceNumber::Kinesis(number.into())
    }

    #[test]
    fn kinesis_numbers_are_compared_as_numbers() {
        let (nine, ten) = (kinesis("9"), kinesis("10"));
        assert!(nine < ten);
        assert!(kinesis("0009") < ten);
        let long = "49590338271490256608559692538361571095921575989136588898";
        let longer = "49590338271490256608559692540925702759324208523137515618";
        assert!(kinesis(long) < kinesis(longer));
    }

    #[test]
    fn a_gap_and_an_overlap_are_refused() {
        let read = Interval { from: Position::TrimHorizon, to: offset(100) };
        for from in [offset(99), offset(101), Position::TrimHorizon] {
            let next = Interval { from, to: offset(200) };
            assert!(matches!(read.clone().join(&next), Err(Error::Broken(_))));
        }
    }

    proptest! {
        /// However a shard is cut into pages, their intervals join to the whole, and leaving one out is noticed.
        #[test]
        fn intervals_join_to_the_whole(mut cuts in prop::collection::btree_set(1_u64..10_000, 3..20), gap in 1_usize..18) {
            let cuts: Vec<u64> = std::mem::take(&mut cuts).into_iter().collect();
            let pages: Vec<Interval> =
                cuts.windows(2).map(|w| Interval { from: offset(w[0]), to: offset(w[1]) }).collect();
            let join = |pages: &[Interval]| {
                let mut whole = Interval::empty(offset(cuts[0]));
                pages.iter().try_for_each(|page| whole.join(page)).map(|()| whole)
            };
            prop_assert_eq!(join(&pages).unwrap().to, offset(cuts[cuts.len() - 1]));
            if gap + 1 < pages.len() {
                let mut holed = pages.clone();
                holed.remove(gap);
                prop_assert!(join(&holed).is_err());
            }
        }

        /// What a slot stores is what it reads back, in the same order.
        #[test]
        fn sequence_numbers_survive_their_text(a: u64, b: u64) {
            let (a, b) = (SequenceNumber::Offset(a), SequenceNumber::Offset(b));
            let back = |n: &SequenceNumber| SequenceNumber::try_from(n.to_string()).unwrap();
            prop_assert_eq!(&back(&a), &a);
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }
}
