//! Query files and what becomes of them: standing queries over the stream, batch statements over the lake.
//!
//! The one law: one file, one statement, one answer. The same `SELECT` runs live on micro-batches, over any past range as
//! a backfill, and as a batch job; for closed windows the answers are equal (exactly for counts, decimals, min, max,
//! distinct counts; within 1e-9 for floats; as a multiset for `array_agg`). What cannot keep that promise is refused when
//! it is planned, with a sentence. Nothing here knows a table of the lake, holds state, or reads a clock.
//!
//! ```text
//! QueryFile ── CREATE MATERIALIZED VIEW ─▶ StandingQuery ─┬▶ WindowedQuery   partial ─▶ reduce ─▶ finish
//!     │                                                   └▶ StatelessQuery  run
//!     └────────── anything else ─────────▶ BatchStatement ─▶ run_batch
//! ```
//! A query may be joined with [`Lookup`]s, which the lake's owner reads and [`WindowedQuery::joined_with`] binds.

mod batch;
mod buffered;
mod catalog;
mod definition;
mod explain;
mod feed;
mod file;
mod functions;
mod grid;
mod interval;
mod joined;
mod joins;
mod lasting;
mod lookup;
mod output;
mod params;
mod place;
mod recover;
mod refuse;
mod relation;
mod row_error;
mod session;
mod sessions;
mod sides;
mod spec;
mod split;
mod standing;
mod stateless;
mod static_file;
mod unnamed;
mod windowed;
mod windows;

pub use batch::{BatchStatement, run_batch};
pub use buffered::BUFFERED_ROWS_MAX;
pub use catalog::{Catalog, Driver, ViewDriver, plan_all, with_parents};
pub(crate) use definition::Pairs;
pub use explain::{StreamingPlan, WindowPlan};
pub use file::{QueryFile, read_queries};
pub use grid::{Grid, Place};
pub use joined::{LookupRows, RUNS_MAX};
pub use lookup::{JOINED_AT, JOINED_BY_END, LOOKED_UP_AT, Lookup};
pub use params::{Params, parse_params};
pub use session::session;
pub use spec::{WindowShape, WindowSpec};
pub(crate) use spec::{closes, cycle_end, opens};
pub use standing::{StandingQuery, input_schema};
pub use stateless::StatelessQuery;
pub use windowed::WindowedQuery;
pub use windows::{TimeRange, WINDOW_START};

#[cfg(test)]
mod equality;
#[cfg(test)]
pub(crate) mod refusals;
#[cfg(test)]
mod lookups;
#[cfg(test)]
pub(crate) mod testing;
