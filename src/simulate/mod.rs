//! Card holders who spend, by seed; and what brings their transactions, or a file's, into a stream.
//!
//! The one law: the same seed and the same start give the same people, places, merchants and transactions, whatever the
//! machine and however the work is cut up.
//!
//! The model and all its numbers are those of the Sparkov generator (July 2020) behind the public card-fraud data set:
//! customers in segments, a lifetime count of rows, date weights, category and half-day from one draw, gamma amounts,
//! one burst of fraud on two adjacent days. People, merchants and places are this module's own. It matches that data
//! set in law, not row by row. Only here and in the live view does anything know what a card transaction is.

mod calendar;
mod customers;
mod days;
mod feed;
mod fields;
mod file;
mod keys;
mod live;
mod merchants;
mod places;
mod profiles;
mod progress;
mod purchase;
mod replay;
mod row;

pub use feed::{Fed, FeedProgress, Plan, feed};
pub use file::{FileSpec, WrittenFile, write_back_jump, write_file};
pub use live::Simulator;
pub use progress::{Ahead, ReplayProgress};
pub use replay::{Replay, replay};
pub use row::SimulatedRow;
