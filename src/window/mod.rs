//! Event time: how far the stream has come, which windows are open, which rows are late.
//!
//! The one law: all of it is a function of rows and arguments. Nothing here reads a clock, does I/O or knows SQL beyond
//! the [`WindowedQuery`](crate::sql::WindowedQuery) it is handed; timing of ticks decides nothing.
//!
//! ```text
//! rows ─▶ Watermarks ─▶ W ─▶ closed_until ─▶ OpenWindows::close ─▶ partial rows of closed windows
//!   └──▶ LateSplit ─▶ partial ─▶ OpenWindows::fold        peek ─▶ the live view
//! ```

#[cfg(test)]
mod joins;
mod late;
mod open;
mod skew;
mod slices;
mod stamp;
mod touched;
mod watermark;

pub use crate::sql::{WindowShape, WindowSpec};
pub use late::{LateSplit, split_late};
pub use open::{Closed, OpenWindows};
pub use stamp::{count_windows, session_bounds};
pub use touched::{
    closed_windows_of, end_before, first_start_from, first_start_of, growing_at, joined, last_start_of, starts_through,
    times_of, windows_of,
};
pub use watermark::{Idleness, Watermarks};

#[cfg(test)]
mod kinds;
