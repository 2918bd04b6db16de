//! Which rows have been seen before.
//!
//! The one law: of all rows of one identity, the first that was written stays the only one. A later one with the same
//! content is a counted duplicate, one with other content a reject. Memory holds identities of epochs not yet published
//! and those with an event time at or after the horizon; rows before it have to be looked up in the lake, once an epoch,
//! by whoever stages it. This file asks nobody; it only says which rows.
//!
//! A limit: which side of the horizon a row lies on is decided by its own event time. A conflicting row that also claims
//! another event time, after the horizon while the first lies before it, is not recognised.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::json::LineDelimitedWriter;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::identity::{Identity, repeats};
use super::origin::Places;
use super::rejects::{Reason, Refusal, Rejects};
use super::{MicroBatch, event_time_values};
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::contract::TableContract;
use crate::error::{Context, Error, Result};
use crate::stream::SequenceNumber;
use crate::token::Tokenizer;

/// Identities of published epochs are forgotten a minute of event time at a time: fine enough for windows of a minute,
/// coarse enough that a bucket costs little.
const BUCKET: Micros = 60 * MICROS_PER_SECOND;

/// A table with room for fewer than this is not worth shrinking (4 MiB).
const SHRINK_ABOVE: usize = 1 << 17;

/// All identities that have to be remembered: about 30 to 60 bytes each in the table, 16 to 24 to find them again.
pub struct Duplicates {
    event_time: Arc<str>,
    known: HashTable<Known>,
    /// Identities and event times admitted by epochs that are not published yet.
    unpublished: BTreeMap<u64, Admissions>,
    /// Identities of published epochs by the bucket their event time falls in.
    published: BTreeMap<i64, Vec<u128>>,
    horizon: Option<Micros>,
    rejects: Rejects,
}

/// What [`Duplicates::admit`] and [`Duplicates::settle`] leave of a micro-batch.
#[derive(Debug)]
pub struct Admitted {
    /// The rows that are new; conflicting ones have joined its rejects. `read = rows + rejects + duplicates`.
    pub batch: MicroBatch,
    /// Rows known before with the same content.
    pub duplicates: u64,
    /// Where the first of them stands.
    pub first_duplicate: Option<SequenceNumber>,
    /// Copies of those rows of `batch` that lie before the horizon: the lake may know them. Whoever stages the epoch looks
    /// their identities up and calls [`Duplicates::settle`].
    pub unsure: Option<RecordBatch>,
}

/// Identities found in the lake, with the content of the row there.
#[derive(Clone, Debug, Default)]
pub struct Published(hashbrown::HashMap<u128, u64>);

impl FromIterator<Identity> for Published {
    fn from_iter<I: IntoIterator<Item = Identity>>(rows: I) -> Self {
        Self(rows.into_iter().map(|row| (row.id, row.content)).collect())
    }
}

impl Published {
    /// Whether the lake knew none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// An identity in the table; two halves, since a `u128` would be aligned to 16 bytes.
#[derive(Clone, Copy)]
struct Known {
    low: u64,
    high: u64,
    content: u64,
}

#[derive(Default)]
struct Admissions {
    ids: Vec<u128>,
    event_times: Vec<Micros>,
}

/// A row that does not stay.
struct Removed {
    row: usize,
    is_duplicate: bool,
}

impl fmt::Debug for Duplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (known, horizon) = (self.known.len(), self.horizon);
        f.debug_struct("Duplicates").field("known", &known).field("horizon", &horizon).finish_non_exhaustive()
    }
}

impl Duplicates {
    /// Knows nothing yet: right for an empty lake. `rejects` is the contract of the rejects table; the tokenizer masks
    /// the bytes of conflicting records.
    ///
    /// # Errors
    /// [`Error::Usage`] for contracts that declare no stream or no rejects.
    pub fn new(contract: &TableContract, rejects: &TableContract, tokenizer: Tokenizer) -> Result<Self> {
        let stream = contract.stream.as_ref().ok_or_else(|| {
            Error::usage(format!("contract `{}` declares no `format`, so it is no stream", contract.name))
        })?;
        Ok(Self {
            event_time: Arc::clone(&stream.event_time),
            known: HashTable::new(),
            unpublished: BTreeMap::new(),
            published: BTreeMap::new(),
            horizon: None,
            rejects: Rejects::new(contract, rejects, tokenizer)?,
        })
    }

    /// Removes the rows whose identity is in memory and remembers the others as rows of `epoch`.
    ///
    /// # Errors
    /// [`Error::Broken`] for a batch that does not hold together.
    pub fn admit(&mut self, epoch: u64, batch: MicroBatch) -> Result<Admitted> {
        let event_times = event_time_values(&batch.rows, &self.event_time)
            .filter(|times| times.len() == batch.identities.len())
            .ok_or_else(|| Error::broken("a micro-batch without one event time and one identity a row"))?;
        let admissions = self.unpublished.entry(epoch).or_default();
        let horizon = self.horizon.unwrap_or(Micros::MIN);
        let mut removed = Vec::new();
        let mut unsure = Vec::new();
        self.known.reserve(batch.identities.len(), Known::hash);
        for (row, (identity, event_time)) in batch.identities.iter().zip(event_times).enumerate() {
            let known = Known::of(identity);
            match self.known.entry(known.low, |k| k.is(&known), Known::hash) {
                Entry::Occupied(entry) => {
                    removed.push(Removed { row, is_duplicate: repeats(entry.get().content, identity.content) });
                }
                Entry::Vacant(entry) => {
                    entry.insert(known);
                    admissions.ids.push(identity.id);
                    admissions.event_times.push(*event_time);
                    if *event_time < horizon {
                        unsure.push(u32::try_from(row).map_err(|_| Error::broken("a micro-batch of 2^32 rows"))?);
                    }
                }
            }
        }
        let unsure = if unsure.is_empty() {
            None
        } else {
            Some(
                take_record_batch(&batch.rows, &UInt32Array::from(unsure))
                    .context(|| "copying rows before the horizon")?,
            )
        };
        Ok(Admitted { unsure, ..self.remove(batch, &removed)? })
    }

    /// Rows with an event time before this are not all in memory. `None`: all rows ever admitted are.
    pub fn horizon(&self) -> Option<Micros> {
        self.horizon
    }

    /// How many identities are in memory.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Remembers published rows, after a restart: all rows of the lake with an event time at or after `horizon`.
    pub fn restore(&mut self, identities: &[Identity], event_times: &[Micros], horizon: Micros) {
        self.known.reserve(identities.len(), Known::hash);
        for (identity, event_time) in identities.iter().zip(event_times) {
            let known = Known::of(identity);
            if let Entry::Vacant(entry) = self.known.entry(known.low, |k| k.is(&known), Known::hash) {
                entry.insert(known);
                self.published.entry(event_time.div_euclid(BUCKET)).or_default().push(identity.id);
            }
        }
        self.raise(horizon);
    }

    /// Drops identities of epochs up to `published_epoch` whose event time lies before the minute of `older_than`, and
    /// raises the horizon to that minute. Call it once the epoch's rows can be read from the lake.
    pub fn forget(&mut self, published_epoch: u64, older_than: Micros) {
        self.raise(older_than.div_euclid(BUCKET).saturating_mul(BUCKET));
        let bucket_min = self.horizon.unwrap_or(Micros::MIN).div_euclid(BUCKET);
        let kept = self.unpublished.split_off(&published_epoch.saturating_add(1));
        let done = std::mem::replace(&mut self.unpublished, kept);
        for admissions in done.into_values() {
            for (id, event_time) in admissions.ids.into_iter().zip(admissions.event_times) {
                let bucket = event_time.div_euclid(BUCKET);
                if bucket < bucket_min {
                    self.drop_identity(id);
                } else {
                    self.published.entry(bucket).or_default().push(id);
                }
            }
        }
        let kept = self.published.split_off(&bucket_min);
        for id in std::mem::replace(&mut self.published, kept).into_values().flatten() {
            self.drop_identity(id);
        }
        if self.known.capacity() > SHRINK_ABOVE.max(self.known.len() * 4) {
            self.known.shrink_to(self.known.len() * 2, Known::hash);
        }
    }

    /// The second step, when an epoch is staged: removes those rows of an admitted batch that the lake turned out to know.
    /// Their bytes are gone by now, so a conflicting row is kept as JSON.
    ///
    /// # Errors
    /// [`Error::Broken`] for a batch that does not hold together.
    pub fn settle(&mut self, batch: MicroBatch, published: &Published) -> Result<Admitted> {
        let mut removed = Vec::new();
        for (row, identity) in batch.identities.iter().enumerate() {
            let Some(content) = published.0.get(&identity.id) else { continue };
            removed.push(Removed { row, is_duplicate: repeats(*content, identity.content) });
            // From now on rows are compared with the one that stays, not with the one that goes.
            let known = Known::of(identity);
            if let Some(found) = self.known.find_mut(known.low, |k| k.is(&known)) {
                found.content = *content;
            }
        }
        self.remove(batch, &removed)
    }

    fn raise(&mut self, horizon: Micros) {
        self.horizon = Some(self.horizon.map_or(horizon, |before| before.max(horizon)));
    }

    fn drop_identity(&mut self, id: u128) {
        let known = Known::of(&Identity { id, content: 0 });
        if let Ok(entry) = self.known.find_entry(known.low, |k| k.is(&known)) {
            entry.remove();
        }
    }

    /// Takes rows out of a batch: duplicates are counted, conflicts join the rejects.
    fn remove(&mut self, mut batch: MicroBatch, removed: &[Removed]) -> Result<Admitted> {
        let raw = std::mem::take(&mut batch.raw);
        if removed.is_empty() {
            return Ok(Admitted { batch, duplicates: 0, first_duplicate: None, unsure: None });
        }
        let places = Places::of(&batch.rows)?;
        let mut keep = vec![true; batch.rows.num_rows()];
        let mut duplicates = 0;
        let mut first_duplicate = None;
        for Removed { row, is_duplicate } in removed {
            keep[*row] = false;
            let place = places.place(*row);
            if *is_duplicate {
                duplicates += 1;
                if first_duplicate.is_none() {
                    first_duplicate = Some(SequenceNumber::try_from(place.sequence.to_owned())?);
                }
                continue;
            }
            let refusal =
                Refusal::new(Reason::ConflictingDuplicate, "an earlier row has this identity and other content");
            match raw.get(*row) {
                Some(raw) => self.rejects.push(place, &refusal, raw),
                None => self.rejects.push(place, &refusal, &as_json(&batch.rows.slice(*row, 1))?),
            }
        }
        if self.rejects.len() > 0 {
            let more = self.rejects.finish(&batch.shard)?;
            batch.rejects = concat_batches(&more.schema(), [&batch.rejects, &more]).context(|| "joining rejects")?;
        }
        batch.identities =
            batch.identities.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(identity, _)| *identity).collect();
        batch.rows = filter_record_batch(&batch.rows, &BooleanArray::from(keep)).context(|| "removing known rows")?;
        Ok(Admitted { batch, duplicates, first_duplicate, unsure: None })
    }
}

impl Known {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    fn of(identity: &Identity) -> Self {
        Self { low: identity.id as u64, high: (identity.id >> 64) as u64, content: identity.content }
    }

    fn is(&self, other: &Self) -> bool {
        self.low == other.low && self.high == other.high
    }

    /// The identity is a hash already.
    fn hash(&self) -> u64 {
        self.low
    }
}

/// A row as a JSON object.
fn as_json(row: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(row).context(|| "rendering a conflicting row")?;
    writer.finish().context(|| "rendering a conflicting row")?;
    Ok(writer.into_inner().trim_ascii_end().to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::super::Decoder;
    use super::super::identity::IdentityHasher;
    use super::super::testing::{decoder, hasher, page, raws, shipped, texts, tokenizer, transaction, with};
    use super::*;

    fn duplicates() -> Duplicates {
        Duplicates::new(&shipped("transactions"), &shipped("rejects"), tokenizer()).unwrap()
    }

    /// A transaction of this id at this second of 2026-11-23, of this amount.
    fn at(id: u64, second: u64, amount: u64) -> String {
        transaction(id)
            .replace(
                &format!("11:{:02}:{:02}", id / 60 % 60, id % 60),
                &format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60),
            )
            .replace("2.86", &amount.to_string())
    }

    fn midnight() -> Micros {
        super::super::testing::ARRIVAL - 12 * 3600 * MICROS_PER_SECOND
    }

    fn assert_balanced(admitted: &Admitted, hasher: &IdentityHasher) {
        let batch = &admitted.batch;
        let rest = (batch.rows.num_rows() + batch.rejects.num_rows()) as u64;
        assert_eq!(batch.read, rest + admitted.duplicates);
        assert_eq!(batch.identities.len(), batch.rows.num_rows());
        assert_eq!(hasher.identities(&shipped("transactions"), &batch.rows).unwrap(), batch.identities);
    }

    #[test]
    fn the_first_row_stays() {
        let mut duplicates = duplicates();
        let conflicting = with("amt", "99");
        let records = [transaction(7), transaction(8), transaction(7), conflicting.clone(), "bad".into()];
        let first = duplicates.admit(0, decoder().decode(&page(&records)).unwrap()).unwrap();
        assert_balanced(&first, &hasher());
        assert_eq!((first.batch.rows.num_rows(), first.duplicates), (2, 1));
        assert_eq!(first.first_duplicate, Some(SequenceNumber::Offset(3)));
        assert_eq!(texts(&first.batch.rejects, "reason"), ["malformed_json", "conflicting_duplicate"]);
        assert_eq!(texts(&first.batch.rejects, "_sequence")[1], format!("{:020}", 4));
        let card = super::super::testing::CARD;
        let masked = conflicting.replace(card, &format!("\"{}\"", tokenizer().token(card)));
        assert_eq!(String::from_utf8(raws(&first.batch.rejects)[1].clone()).unwrap(), masked);

        let again = duplicates.admit(1, decoder().decode(&page(&records)).unwrap()).unwrap();
        assert_balanced(&again, &hasher());
        assert_eq!((again.batch.rows.num_rows(), again.duplicates, again.batch.rejects.num_rows()), (0, 3, 2));
        assert!(again.unsure.is_none());
    }

    #[test]
    fn memory_forgets_what_is_published_and_old() {
        let mut duplicates = duplicates();
        let records: Vec<String> = (0..600).map(|i| at(i, i, 1)).collect();
        duplicates.admit(0, decoder().decode(&page(&records)).unwrap()).unwrap();
        duplicates.admit(1, decoder().decode(&page(&[at(600, 0, 1)])).unwrap()).unwrap();
        assert_eq!((duplicates.len(), duplicates.horizon()), (601, None));

        duplicates.forget(0, midnight() + 150 * MICROS_PER_SECOND);
        assert_eq!(duplicates.horizon(), Some(midnight() + 120 * MICROS_PER_SECOND));
        assert_eq!(duplicates.len(), 601 - 120, "two minutes are gone; epoch 1 is not published");
        duplicates.forget(1, midnight());
        assert_eq!(duplicates.horizon(), Some(midnight() + 120 * MICROS_PER_SECOND), "it never falls");
        assert_eq!(duplicates.len(), 480);
        duplicates.forget(1, midnight() + 86_400 * MICROS_PER_SECOND);
        assert!(duplicates.is_empty());
    }

    #[test]
    fn rows_before_the_horizon_are_settled_by_the_lake() {
        let mut duplicates = duplicates();
        let lake = decoder().decode(&page(&[at(1, 10, 1), at(2, 10, 1)])).unwrap();
        duplicates.restore(&[], &[], midnight() + 60 * MICROS_PER_SECOND);

        let records = [at(1, 10, 1), at(2, 10, 5), at(3, 10, 1), at(4, 70, 1)];
        let admitted = duplicates.admit(5, decoder().decode(&page(&records)).unwrap()).unwrap();
        assert_eq!(admitted.batch.rows.num_rows(), 4);
        let unsure = admitted.unsure.unwrap();
        assert_eq!(texts(&unsure, "transaction_id"), [1, 2, 3].map(|id| format!("{id:032x}")));

        let published: Published = lake.identities.iter().copied().collect();
        let settled = duplicates.settle(admitted.batch, &published).unwrap();
        assert_balanced(&settled, &hasher());
        assert_eq!((settled.batch.rows.num_rows(), settled.duplicates), (2, 1));
        assert_eq!(settled.first_duplicate, Some(SequenceNumber::Offset(1)));
        assert_eq!(texts(&settled.batch.rejects, "reason"), ["conflicting_duplicate"]);
        let row: serde_json::Value = serde_json::from_slice(&raws(&settled.batch.rejects)[0]).unwrap();
        assert_eq!(row["transaction_id"], format!("{:032x}", 2));

        // Later rows are compared with the row of the lake, not with the one that went to the rejects.
        let later = duplicates.admit(5, decoder().decode(&page(&[at(2, 10, 1), at(2, 10, 5)])).unwrap()).unwrap();
        assert_eq!((later.duplicates, later.batch.rejects.num_rows()), (1, 1));
    }

    /// One pipeline over a model of a lake: admits, stages, publishes, forgets, restarts.
    struct Model {
        decoder: Decoder,
        duplicates: Duplicates,
        hasher: IdentityHasher,
        contract: Arc<TableContract>,
        lake: Vec<RecordBatch>,
        open: Vec<Admitted>,
        epoch: u64,
        written: Vec<String>,
        counted: u64,
        rejected: u64,
    }

    impl Model {
        fn new() -> Self {
            Self {
                decoder: decoder(),
                duplicates: duplicates(),
                hasher: hasher(),
                contract: shipped("transactions"),
                lake: Vec::new(),
                open: Vec::new(),
                epoch: 0,
                written: Vec::new(),
                counted: 0,
                rejected: 0,
            }
        }

        fn read(&mut self, records: &[String]) {
            let batch = self.decoder.decode(&page(records)).unwrap();
            let admitted = self.duplicates.admit(self.epoch, batch).unwrap();
            assert_balanced(&admitted, &self.hasher);
            self.counted += admitted.duplicates;
            self.open.push(admitted);
        }

        fn published(&self) -> Vec<Identity> {
            self.lake.iter().flat_map(|rows| self.hasher.identities(&self.contract, rows).unwrap()).collect()
        }

        fn commit(&mut self, horizon: Micros) {
            let asked: HashSet<String> =
                self.open.iter().filter_map(|a| a.unsure.as_ref()).flat_map(|u| texts(u, "transaction_id")).collect();
            let ids: Vec<String> = self.lake.iter().flat_map(|rows| texts(rows, "transaction_id")).collect();
            let found = self
                .published()
                .into_iter()
                .zip(ids)
                .filter(|(_, id)| asked.contains(id))
                .map(|(identity, _)| identity);
            let found: Published = found.collect();
            for admitted in std::mem::take(&mut self.open) {
                let settled = self.duplicates.settle(admitted.batch, &found).unwrap();
                self.counted += settled.duplicates;
                self.rejected += settled.batch.rejects.num_rows() as u64;
                self.written.extend(texts(&settled.batch.rows, "transaction_id"));
                self.lake.push(settled.batch.rows);
            }
            self.duplicates.forget(self.epoch, horizon);
            self.epoch += 1;
        }

        /// Comes back with a memory rebuilt from the lake; keys are new.
        fn restart(&mut self, horizon: Micros) {
            self.hasher = IdentityHasher::new([9, 9, 9, self.epoch]);
            self.decoder =
                Decoder::new(Arc::clone(&self.contract), shipped("rejects"), tokenizer(), 0, self.hasher.clone())
                    .unwrap();
            self.duplicates = duplicates();
            let times: Vec<Micros> =
                self.lake.iter().flat_map(|rows| event_time_values(rows, "event_time").unwrap().to_vec()).collect();
            let recent = self.published().into_iter().zip(times).filter(|(_, time)| *time >= horizon);
            let (identities, times): (Vec<_>, Vec<_>) = recent.unzip();
            self.duplicates.restore(&identities, &times, horizon);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever is forgotten and whenever it restarts: each identity is written once, its first content stays, and every
        /// later row is counted as a duplicate or a conflict, as a plain map says.
        #[test]
        fn exactly_once_whatever_is_forgotten(steps in prop::collection::vec((prop::collection::vec((0_u64..12, 1_u64..3), 1..8), any::<bool>(), 0_u64..400, prop::bool::weighted(0.2)), 1..14)) {
            let mut model = Model::new();
            let mut oracle: HashMap<u64, u64> = HashMap::new();
            let (mut duplicates, mut conflicts, mut low) = (0, 0, 0);
            for (rows, commit, horizon, restart) in steps {
                let records: Vec<String> = rows.iter().map(|(id, amount)| at(*id, id * 30, *amount)).collect();
                for (id, amount) in &rows {
                    match oracle.get(id) {
                        None => { oracle.insert(*id, *amount); }
                        Some(first) if first == amount => duplicates += 1,
                        Some(_) => conflicts += 1,
                    }
                }
                model.read(&records);
                low = low.max(horizon);
                let horizon = midnight() + Micros::try_from(low).unwrap() * MICROS_PER_SECOND;
                // A commit after each page, or after several; then what was read before it was seen before.
                if commit || restart { model.commit(horizon); }
                if restart { model.restart(horizon); }
            }
            model.commit(midnight());
            let unique: HashSet<&String> = model.written.iter().collect();
            prop_assert_eq!(unique.len(), model.written.len());
            prop_assert_eq!(unique.len(), oracle.len());
            prop_assert_eq!(model.counted + model.rejected, duplicates + conflicts);
        }
    }
}
