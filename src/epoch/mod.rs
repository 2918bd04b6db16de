//! Epochs: what decides which rows exist.
//!
//! An epoch is a pure function of the slot before it and the shard ranges read since. Its files are staged first; one
//! create-if-absent PUT of `_epochs/<N>.json`, the *slot*, decides it; publishing to the Delta tables only repeats what
//! the slot says. The one law: nothing refers to a staged file before its slot exists, and no slot is ever changed.
//!
//! This module knows slots, the order between writers, and the books. It does not read streams, fold windows or write
//! Parquet.

mod books;
mod fence;
mod gone;
mod guard;
mod published;
mod slot;
mod slots;
mod stretches;

pub use books::{ShardBooks, books_batch};
pub use fence::{check_token_key, take_over};
pub use gone::{Erased, Expired, Gone};
pub use guard::refuse_beside_a_job;
pub use published::published_epoch;
pub use slot::{
    Compacted, Counts, Kind, Owed, QueryProgress, Restated, SLOT_VERSION, ShardSlot, Slot, SourceProgress, TableAdds,
    TokenKeyName, Writer,
};
pub use slots::{Decided, SlotLog};
pub use stretches::Epochs;
