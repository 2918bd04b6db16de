//! What an audit can find: every kind of damage, the invariant it breaks, what it means and what to do.
//!
//! The one law: a finding stands alone. Whoever reads the line knows what is wrong, where, how bad it is and what to try.

use std::fmt;

use serde::Serialize;

/// One difference between what the lake says and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of the list at the head of this module's folder; `None` for what concerns card numbers.
    pub invariant: Option<u8>,
    pub kind: Kind,
    /// Slot, table, file, shard, window.
    pub place: String,
    /// What was found there, against what should be.
    pub what: String,
}

/// The kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    MissingSlot,
    DamagedSlot,
    BrokenLink,
    BrokenGeneration,
    PositionGap,
    UnbalancedCounts,
    WrongTotals,
    RowsDiffer,
    WrongRemoval,
    WrongLate,
    SequenceOutside,
    DuplicateIdentity,
    BooksDiffer,
    MissingTable,
    LogHole,
    ForeignCommit,
    MissingCommit,
    DoubledCommit,
    CommitDiffers,
    FileInTwoEpochs,
    MissingFile,
    WrongSize,
    WrongFooter,
    UnreadableTable,
    EarlyChild,
    MissingRow,
    SurplusRow,
    DifferentRow,
    OpenWindow,
    WrongRestatement,
    WrongCompaction,
    NotRecomputed,
    WatermarkFell,
    ClosedUntilFell,
    ClosedEarly,
    TokenKeyChanged,
    NoToken,
    CardNumber,
}

/// What is said of a kind.
struct Words {
    invariant: Option<u8>,
    name: &'static str,
    meaning: &'static str,
    remedy: &'static str,
}

const fn words(invariant: u8, name: &'static str, meaning: &'static str, remedy: &'static str) -> Words {
    Words { invariant: if invariant == 0 { None } else { Some(invariant) }, name, meaning, remedy }
}

const RESTORE_SLOTS: &str = "restore `_epochs` from a copy of the lake";
const RESTORE_TABLE: &str = "restore the table's folder from a copy of the lake";
const REBUILD_TABLE: &str =
    "`lakeward batch` with the query's file and `--from`, `--to`, `--write` puts the right rows there";
const READ_AGAIN: &str = "keep the lake, and read the input into a new one to see which rows differ";
const STOP_THE_OTHER: &str = "stop whoever writes to this table, and take its commit back";

impl Kind {
    fn words(self) -> Words {
        match self {
            Self::MissingSlot => words(1, "missing slot", "an epoch's decision is gone", RESTORE_SLOTS),
            Self::DamagedSlot => words(1, "damaged slot", "an epoch's decision cannot be read", RESTORE_SLOTS),
            Self::BrokenLink => words(1, "broken link", "a slot was changed after it was decided", RESTORE_SLOTS),
            Self::BrokenGeneration => {
                words(1, "broken generation", "a writer that had been fenced decided an epoch", READ_AGAIN)
            }
            Self::PositionGap => words(2, "position gap", "records were skipped or read twice", READ_AGAIN),
            Self::UnbalancedCounts => {
                words(3, "unbalanced counts", "a record ended nowhere or in two places", RESTORE_SLOTS)
            }
            Self::WrongTotals => {
                words(3, "wrong totals", "a slot disagrees with itself about its files", RESTORE_SLOTS)
            }
            Self::RowsDiffer => {
                words(3, "rows differ", "the table does not hold what the books counted", RESTORE_TABLE)
            }
            Self::WrongRemoval => {
                words(3, "wrong removal", "rows were taken out for good otherwise than their slot says", RESTORE_SLOTS)
            }
            Self::WrongLate => {
                words(3, "wrong late", "rows are marked late that no query refused, or the reverse", RESTORE_TABLE)
            }
            Self::SequenceOutside => {
                words(3, "sequence outside", "a row stands in an epoch that did not read its record", RESTORE_TABLE)
            }
            Self::DuplicateIdentity => words(3, "duplicate identity", "a record counts more than once", RESTORE_TABLE),
            Self::BooksDiffer => {
                words(3, "books differ", "the table `epochs` does not tell what was decided", RESTORE_TABLE)
            }
            Self::MissingTable => words(4, "missing table", "decided rows are gone", RESTORE_TABLE),
            Self::LogHole => words(4, "log hole", "no reader can open the table", RESTORE_TABLE),
            Self::ForeignCommit => words(4, "foreign commit", "the table holds what no epoch decided", STOP_THE_OTHER),
            Self::MissingCommit => words(4, "missing commit", "decided rows cannot be seen", RESTORE_TABLE),
            Self::DoubledCommit => words(
                4,
                "doubled commit",
                "an epoch was published twice; readers may see its rows twice",
                RESTORE_TABLE,
            ),
            Self::CommitDiffers => {
                words(4, "commit differs", "the table shows other files than were decided", RESTORE_TABLE)
            }
            Self::FileInTwoEpochs => words(5, "file in two epochs", "its rows were decided twice", RESTORE_SLOTS),
            Self::MissingFile => words(5, "missing file", "decided rows are gone", RESTORE_TABLE),
            Self::WrongSize => words(5, "wrong size", "the file is not the one that was decided", RESTORE_TABLE),
            Self::WrongFooter => words(5, "wrong footer", "the file is not the one that was decided", RESTORE_TABLE),
            Self::WrongCompaction => words(
                5,
                "wrong compaction",
                "files written together do not hold the rows of those they replaced",
                RESTORE_TABLE,
            ),
            Self::UnreadableTable => {
                words(5, "unreadable table", "what depends on its rows was not checked", RESTORE_TABLE)
            }
            Self::EarlyChild => words(6, "early child", "rows of one key may have been read out of order", READ_AGAIN),
            Self::MissingRow => words(7, "missing row", "a closed window's answer is not in its table", REBUILD_TABLE),
            Self::SurplusRow => words(7, "surplus row", "the table answers what the rows do not say", REBUILD_TABLE),
            Self::DifferentRow => words(7, "different row", "a closed window's answer is wrong", REBUILD_TABLE),
            Self::OpenWindow => {
                words(7, "open window", "a window that is not closed was answered, and will be again", REBUILD_TABLE)
            }
            Self::WrongRestatement => {
                words(7, "wrong restatement", "rows of closed windows were replaced as nobody may", RESTORE_SLOTS)
            }
            Self::NotRecomputed => {
                words(7, "not recomputed", "a query's table is not proved", "mend what the other lines name first")
            }
            Self::WatermarkFell => words(9, "watermark fell", "windows may have been closed twice", RESTORE_SLOTS),
            Self::ClosedUntilFell => words(9, "closed_until fell", "windows may have been closed twice", RESTORE_SLOTS),
            Self::ClosedEarly => words(9, "closed early", "rows on time may have been refused", RESTORE_SLOTS),
            Self::TokenKeyChanged => {
                words(0, "token key changed", "one card may have two tokens under one version", RESTORE_SLOTS)
            }
            Self::NoToken => words(
                0,
                "no token",
                "a tokenised column holds something else",
                "delete the row's file and rotate the key",
            ),
            Self::CardNumber => words(
                0,
                "card number",
                "what looks like a card number lies in the clear",
                "look at the row; if it is one, rewrite the file without it",
            ),
        }
    }

    /// Number of the invariant it breaks; `None` for what concerns card numbers.
    pub fn invariant(self) -> Option<u8> {
        self.words().invariant
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words().name)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Words { invariant, name, meaning, remedy } = self.kind.words();
        match invariant {
            Some(number) => write!(f, "invariant {number}: ")?,
            None => f.write_str("card numbers: ")?,
        }
        write!(f, "{name} in {}: {}; {meaning}; {remedy}", self.place, self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_that_names_invariant_kind_place_meaning_and_remedy() {
        let finding = Finding {
            invariant: Kind::BrokenLink.invariant(),
            kind: Kind::BrokenLink,
            place: "slot 7".into(),
            what: "it follows ab, slot 6 is cd".into(),
        };
        assert_eq!(
            finding.to_string(),
            "invariant 1: broken link in slot 7: it follows ab, slot 6 is cd; a slot was changed after it was decided; \
             restore `_epochs` from a copy of the lake"
        );
        assert_eq!(serde_json::to_value(&finding).unwrap()["kind"], "broken_link");
    }
}
