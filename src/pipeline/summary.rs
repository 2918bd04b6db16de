//! What a run did: the summary at its end, and a snapshot on the way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use serde::Serialize;

use super::commit::{Commit, Draft};
use super::engine::Engine;
use crate::clock::Micros;
use crate::epoch::Counts;
use crate::lake::Requests;
use crate::stream::{ShardId, Unread, UnreadShards};

/// What a run did. `read = written + duplicates + rejected`; `late` is part of `written`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    #[serde(flatten)]
    pub counts: Counts,
    pub windows_closed: u64,
    /// Closed windows that were recomputed: late rows belong to them, or their history was asked for.
    pub windows_restated: u64,
    /// Small files whose rows were written together into larger ones.
    pub files_compacted: u64,
    /// Rows of dates that their tables keep no longer.
    pub rows_expired: u64,
    /// Late rows of windows that cannot be computed any more, because rows of them are gone: seen by a query and left.
    pub late_rows_left: u64,
    /// Losses accepted at the start of this run, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
    /// The greatest share of the stream's retention that unread records had used up in this run; at 1 they are lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_used_max: Option<f64>,
    /// Rows committed, by table; rows that replace others are not among them.
    pub tables: BTreeMap<Arc<str>, u64>,
    /// Epochs decided by this run.
    pub epochs: u64,
    /// Bytes of data files.
    pub bytes: u64,
    pub seconds: f64,
    pub rows_per_second: f64,
    pub watermark: Option<Micros>,
    /// Whether the run ended because its input had, and not because it was stopped.
    pub complete: bool,
    /// What was asked of the lake's store since the start.
    pub requests: Requests,
    /// Most resident memory the process has had; `None` where the system does not tell.
    pub memory_peak_bytes: Option<u64>,
}

/// What the job looks like at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub totals: Counts,
    pub watermark: Option<Micros>,
    pub event_time_max: Option<Micros>,
    /// The shard that is nearest to losing records, if one is behind.
    pub unread: Option<(ShardId, Unread)>,
    /// Over all queries.
    pub open_windows: u64,
    /// What each windowed query would answer if its open windows closed now.
    pub open: BTreeMap<Arc<str>, Vec<RecordBatch>>,
    /// Rows each stateless query has given in this run, and its last few.
    pub alerts: BTreeMap<Arc<str>, (u64, Vec<RecordBatch>)>,
}

impl Summary {
    /// Adds what an epoch is about to commit.
    pub(super) fn note(&mut self, draft: &Draft) {
        self.epochs += 1;
        self.windows_closed += draft.windows_closed;
        self.windows_restated += draft.windows_restated;
        self.files_compacted += draft.files_compacted;
        self.rows_expired += draft.rows_expired;
        for (table, batches) in &draft.tables {
            *self.tables.entry(table.clone()).or_default() += batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
        }
    }

    /// Takes note of how old what is unread is.
    pub(super) fn note_unread(&mut self, unread: &UnreadShards, now: Micros) {
        if let Some((_, oldest)) = unread.oldest(now) {
            let share = oldest.share(now);
            self.retention_used_max = Some(self.retention_used_max.map_or(share, |most| most.max(share)));
        }
    }

    pub(super) fn published(&mut self, commit: &Commit) {
        self.bytes += commit.bytes;
    }

    pub(super) fn close(&mut self, engine: &Engine, elapsed: Duration) {
        self.counts = engine.totals.clone();
        self.watermark = engine.watermark();
        self.seconds = elapsed.as_secs_f64();
        self.rows_per_second = self.counts.read as f64 / self.seconds.max(f64::EPSILON);
        self.memory_peak_bytes = memory_peak_bytes();
    }
}

/// Linux tells in `/proc/self/status`, in kibibytes.
fn memory_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
