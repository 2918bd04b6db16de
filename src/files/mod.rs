//! Files as a source: csv, csv.gz, ndjson and ndjson.gz become records of JSON, one file one shard.
//!
//! The one law: a record's sequence number is the count of decompressed bytes up to and including its line end, so
//! reading resumed after any record yields exactly the records that follow, and no byte of a file is lost: what cannot
//! be a record of its format still becomes one, for the decoder to reject.
//!
//! This module reads; it knows no table, no token and no column but `id` and the nameless one, which count rows.

mod content;
mod csv;
mod format;
mod ndjson;
mod reader;
mod source;

pub use format::{FileFormat, Lines, shard_id};
pub use reader::{FileRecord, RecordPage, RecordReader, Records, records};
pub use source::{FileSource, Pace, spawn};

/// The source's name in slots, books and rows.
pub const SOURCE: &str = "files";

/// Bytes read at once and held by one page: large enough that a page's fixed cost (a channel send, an allocation)
/// vanishes, small enough to stay in a core's second-level cache while it is split and decoded.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Records of one page: bounds the page's bookkeeping when lines are short.
pub const PAGE_RECORDS_MAX: usize = 4_096;

/// The longest record that can be valid: a Kinesis record's default limit. A line between this and [`LINE_BYTES_MAX`]
/// is handed over whole, so that its reject holds all of it.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// A longer line is cut to `RECORD_BYTES_MAX + 1` bytes (one too many to be valid) and the rest of it skipped: memory
/// stays bounded whatever the file holds.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// Files read at once: each holds a thread, and a few pages in its channel.
pub const FILES_MAX: usize = 64;

const _: () = assert!(CHUNK_BYTES >= RECORD_BYTES_MAX && RECORD_BYTES_MAX < LINE_BYTES_MAX);
