//! Rows of the stream that a query without windows has missed, because it came later or was away: its history.
//!
//! The one law: whole epochs are answered, each once. Which it has missed, the slots say, and the slot that decides the
//! answer says so, too: whoever is killed before that has answered nothing, and after it all. Nothing is replaced; rows of
//! the table are as they were.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::{count, min};
use datafusion::prelude::{Expr, col, lit};
use datafusion::scalar::ScalarValue;
use futures::TryStreamExt;

use super::rounds::{Round, Work, signed};
use super::{Backfill, Ground, Query, Subject};
use crate::clock::Micros;
use crate::contract::provenance;
use crate::epoch::Epochs;
use crate::error::{Context, Error, Result};
use crate::lake::Replaced;
use crate::sql::Driver;

/// Rows of the stream one round answers, as far as whole epochs allow: as many as a round restates.
const ROUND_ROWS_MAX: u64 = 4_000_000;
/// Rows gathered before they become files: as many as a replacement gathers.
const STAGE_ROWS: usize = 262_144;

impl Ground {
    /// The rounds that answer what a query without windows has missed, newest first. From a time on these are the epochs
    /// since the first that brought a row of that time, whatever else they brought.
    ///
    /// # Errors
    /// [`Error::External`] when the lake does not answer.
    pub(super) async fn missed_rounds(&self, subject: &Subject, backfill: Backfill) -> Result<Vec<Round>> {
        let mut missed = subject.reach.missed.clone();
        if let Backfill::From(time) = backfill {
            missed = match self.first_epoch(time).await? {
                Some(0) => missed,
                Some(first) => missed.after(first - 1),
                None => Epochs::default(),
            };
        }
        if missed.is_empty() {
            return Ok(Vec::new());
        }
        let counts = self.rows_by_epoch(&missed).await?;
        let round =
            |epochs| Round { query: subject.name().clone(), work: Work::Missed(epochs), left: 0, marks: Vec::new() };
        Ok(pieces(&missed, &counts).into_iter().rev().map(round).collect())
    }

    /// Stages the answer to all rows of the stream of these epochs, each joined with what its own met.
    ///
    /// # Errors
    /// Whatever the query's plan or the store say.
    pub(super) async fn answer_missed(&self, subject: &Subject, epochs: &Epochs) -> Result<Replaced> {
        let what = || format!("reading what `{}` has missed", subject.name());
        let Query::Stateless(query) = &subject.query else {
            return Err(Error::broken(format!("`{}` has windows and missed no row", subject.name())));
        };
        let (table, session) = (self.table(subject.name())?, self.session().await?);
        let rejoin = self.rejoin(&session);
        let (mut waiting, mut count): (Vec<RecordBatch>, usize) = (Vec::new(), 0);
        let mut replaced = Replaced::default();
        for part in rejoin.stream_parts(&subject.query, of_epochs(epochs)).await? {
            let bound = match query.lookups().is_empty() {
                true => query.as_ref().clone(),
                false => query.joined_with(&self.load(subject, part.versions.as_ref()).await?.rows)?,
            };
            let mut rows = rejoin.rows(&Driver::Stream, part.wanted, false).await?;
            while let Some(batch) = rows.try_next().await.context(what)? {
                let answer = bound.run(&[batch]).await?;
                count += answer.iter().map(RecordBatch::num_rows).sum::<usize>();
                waiting.extend(answer);
                if count >= STAGE_ROWS {
                    replaced.staged.extend(table.stage(std::mem::take(&mut waiting), self.through).await?);
                    count = 0;
                }
            }
        }
        if count > 0 {
            replaced.staged.extend(table.stage(waiting, self.through).await?);
        }
        replaced.rows_in = replaced.staged.rows;
        Ok(replaced)
    }

    /// The first epoch that brought a row of this time, or after it.
    async fn first_epoch(&self, time: Micros) -> Result<Option<u64>> {
        let since = lit(ScalarValue::TimestampMicrosecond(Some(time), Some("UTC".into())));
        let wanted = col(self.event_time()).gt_eq(since);
        let found = self.of_stream(wanted, Vec::new(), min(col(provenance::EPOCH))).await?;
        let first = found.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().iter());
        Ok(first.flatten().min().and_then(|epoch| u64::try_from(epoch).ok()))
    }

    /// How many rows of the stream each of these epochs brought, in order.
    async fn rows_by_epoch(&self, epochs: &Epochs) -> Result<Vec<(u64, u64)>> {
        let by = vec![col(provenance::EPOCH)];
        let found = self.of_stream(of_epochs(epochs), by, count(lit(1))).await?;
        let pairs = found.iter().flat_map(|batch| {
            let [epochs, counts] = [0, 1].map(|index| batch.column(index).as_primitive::<Int64Type>().values());
            epochs.iter().zip(counts.iter()).map(|(epoch, count)| (epoch.unsigned_abs(), count.unsigned_abs()))
        });
        let mut counts: Vec<(u64, u64)> = pairs.collect();
        counts.sort_unstable();
        Ok(counts)
    }

    /// An aggregate over some rows of the stream.
    async fn of_stream(&self, wanted: Expr, by: Vec<Expr>, aggregate: Expr) -> Result<Vec<RecordBatch>> {
        let what = || "looking for what queries have missed";
        let rows = self.session().await?.table(self.stream.name.as_ref()).await.context(what)?;
        let rows = rows.filter(wanted).context(what)?.aggregate(by, vec![aggregate]).context(what)?;
        rows.collect().await.context(what)
    }
}

/// Rows of these epochs.
pub(super) fn of_epochs(epochs: &Epochs) -> Expr {
    let within = |(first, last): &(u64, u64)| col(provenance::EPOCH).between(lit(signed(*first)), lit(signed(*last)));
    epochs.stretches().iter().map(within).reduce(Expr::or).unwrap_or(lit(false))
}

/// Epochs cut, oldest first, where a round would grow too big; `counts` are the rows of those that have any.
fn pieces(epochs: &Epochs, counts: &[(u64, u64)]) -> Vec<Epochs> {
    let mut pieces = vec![Epochs::default()];
    let mut rows = 0;
    for &(first, last) in epochs.stretches() {
        let mut from = first;
        for &(epoch, more) in counts.iter().filter(|(epoch, _)| (first..=last).contains(epoch)) {
            if rows > 0 && rows + more > ROUND_ROWS_MAX {
                extend(&mut pieces, &Epochs::of(from, epoch.saturating_sub(1)));
                pieces.push(Epochs::default());
                (from, rows) = (epoch, 0);
            }
            rows += more;
        }
        extend(&mut pieces, &Epochs::of(from, last));
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn extend(pieces: &mut [Epochs], more: &Epochs) {
    if let Some(last) = pieces.last_mut() {
        *last = std::mem::take(last).and(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_bounded_and_hold_every_epoch_once() {
        let missed = Epochs::of(0, 9).and(&Epochs::of(20, 29));
        let half = ROUND_ROWS_MAX / 2;
        let counts = [(1, half), (4, half), (7, 1), (22, half), (25, 3 * ROUND_ROWS_MAX), (26, 1), (40, half)];
        let pieces = pieces(&missed, &counts);
        let all = pieces.iter().fold(Epochs::default(), Epochs::and);
        assert_eq!(all, missed);
        let shown: Vec<String> = pieces.iter().map(ToString::to_string).collect();
        // One epoch is never cut, however large.
        assert_eq!(shown, ["0 to 6", "7 to 9, 20 to 24", "25", "26 to 29"]);
        assert_eq!(super::pieces(&Epochs::default(), &counts), []);
        assert_eq!(super::pieces(&Epochs::of(2, 3), &counts), [Epochs::of(2, 3)]);
    }
}
