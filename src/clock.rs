//! The one place that reads the clock.
//!
//! Decode, window and plan code takes time as an argument; whoever needs "now" gets a [`Clock`] from the command line's
//! end of the program, and a test hands in a fixed one.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01T00:00:00Z: the unit of every time in Lakeward.
pub type Micros = i64;

/// Microseconds in a second.
pub const MICROS_PER_SECOND: Micros = 1_000_000;

/// A time as messages and reports show it: `2026-11-23T14:05:00Z`, with decimals of the second where it has any.
pub fn show_time(micros: Micros) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| format!("{micros} µs"), |time| time.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string())
}

/// Where "now" comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that stands still until it is set (tests).
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `micros`.
    pub fn fixed(micros: Micros) -> Self {
        Self::Fixed(Arc::new(AtomicI64::new(micros)))
    }

    /// Now, in microseconds since the epoch, UTC.
    #[expect(clippy::disallowed_methods, reason = "the one place that may read the clock")]
    pub fn now(&self) -> Micros {
        match self {
            Self::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX)),
            Self::Fixed(micros) => micros.load(Ordering::Relaxed),
        }
    }
}
