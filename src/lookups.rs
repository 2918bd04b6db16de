//! What standing queries are joined with, read from the lake.
//!
//! The one law: the rows of a lookup are those of named versions of its tables, so whoever knows the versions can join
//! again as it was. All of a lookup is held in memory, up to a bound that is told before it hurts.
//! Which epoch sees which version is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::ident;
use futures::TryStreamExt;

use crate::error::{Context, Error, Result};
use crate::lake::{Lake, Table};
use crate::sql::{Lookup, LookupRows, StandingQuery, run_batch, session};

/// Rows of one lookup: every card or merchant of a large bank's region; built into a hash table in a fraction of a second.
pub const LOOKUP_ROWS_MAX: usize = 1_000_000;
/// Bytes of one lookup, its hash table left out: two versions of it stand side by side while one replaces the other.
pub const LOOKUP_BYTES_MAX: usize = 256 << 20;

/// Versions of tables, by name.
pub type Versions = BTreeMap<Arc<str>, u64>;

/// The rows of lookups, and the versions they are of.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub rows: LookupRows,
    pub versions: Versions,
}

impl Loaded {
    /// The versions of the tables that some lookups read.
    pub fn versions_of(&self, lookups: &[Lookup]) -> Versions {
        let tables = lookups.iter().flat_map(|lookup| &lookup.tables);
        tables.filter_map(|table| Some((Arc::clone(table), *self.versions.get(table)?))).collect()
    }
}

/// Reads the lookups of all standing queries.
#[derive(Debug)]
pub struct Loader {
    lake: Lake,
    lookups: Vec<Lookup>,
    tables: BTreeMap<Arc<str>, Arc<Table>>,
}

impl Loader {
    /// A loader for these queries, whose lookups read some of these tables.
    pub fn new<'a>(
        lake: &Lake,
        queries: impl IntoIterator<Item = &'a StandingQuery>,
        tables: &BTreeMap<Arc<str>, Arc<Table>>,
    ) -> Self {
        // A view read through its text brings its lookups along, of which either plan may need other columns: they are
        // held once, with the columns of both.
        let mut lookups: Vec<Lookup> = Vec::new();
        for lookup in queries.into_iter().flat_map(StandingQuery::lookups) {
            match lookups.iter_mut().find(|known| known.name == lookup.name) {
                Some(known) => known.widen(lookup),
                None => lookups.push(lookup.clone()),
            }
        }
        let read: BTreeSet<_> = lookups.iter().flat_map(|lookup| &lookup.tables).collect();
        let tables = tables.iter().filter(|(name, _)| read.contains(name));
        let tables = tables.map(|(name, table)| (Arc::clone(name), Arc::clone(table))).collect();
        Self { lake: lake.clone(), lookups, tables }
    }

    /// Whether no query is joined with the lake.
    pub fn is_empty(&self) -> bool {
        self.lookups.is_empty()
    }

    /// Every lookup as its tables are now.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub async fn newest(&self) -> Result<Loaded> {
        Ok(self.refresh(&Loaded::default()).await?.unwrap_or_default())
    }

    /// Every lookup as its tables are now, of which only those are read that have changed since `before`; `None` when
    /// nothing has.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub async fn refresh(&self, before: &Loaded) -> Result<Option<Loaded>> {
        let mut versions = Versions::new();
        for (name, table) in &self.tables {
            versions.insert(Arc::clone(name), table.version().await?);
        }
        if versions == before.versions && before.rows.len() == self.lookups.len() {
            return Ok(None);
        }
        let mut rows = LookupRows::new();
        for lookup in &self.lookups {
            let is_same = lookup.tables.iter().all(|table| versions.get(table) == before.versions.get(table));
            let kept = before.rows.get(&lookup.name).filter(|_| is_same).cloned();
            let loaded = match kept {
                Some(kept) => kept,
                None => self.read(lookup, &versions).await?,
            };
            rows.insert(Arc::clone(&lookup.name), loaded);
        }
        Ok(Some(Loaded { rows, versions }))
    }

    /// Some lookups as of these versions of their tables.
    ///
    /// # Errors
    /// [`Error::Usage`] for a version the log no longer holds, and for a lookup of more than [`LOOKUP_ROWS_MAX`] rows or
    /// [`LOOKUP_BYTES_MAX`]; [`Error::External`] when the lake does not answer or the lookup's own SQL fails.
    pub async fn load(&self, lookups: &[Lookup], versions: &Versions) -> Result<Loaded> {
        let mut rows = LookupRows::new();
        for lookup in lookups {
            rows.insert(Arc::clone(&lookup.name), self.read(lookup, versions).await?);
        }
        Ok(Loaded { rows, versions: versions.clone() })
    }

    /// Some lookups as their tables are now.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub async fn newest_of(&self, lookups: &[Lookup]) -> Result<Loaded> {
        let mut versions = Versions::new();
        for name in lookups.iter().flat_map(|lookup| &lookup.tables) {
            if let Some(table) = self.tables.get(name) {
                versions.insert(Arc::clone(name), table.version().await?);
            }
        }
        self.load(lookups, &versions).await
    }

    async fn read(&self, lookup: &Lookup, versions: &Versions) -> Result<Vec<RecordBatch>> {
        let tables = lookup.tables.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join("`, `");
        let doing = || format!("reading `{tables}`, which a query is joined with");
        let session = session();
        self.lake.register(&session);
        for name in &lookup.tables {
            let (Some(table), Some(version)) = (self.tables.get(name), versions.get(name)) else {
                return Err(Error::broken(format!("the table `{name}` is not open")));
            };
            let provider = table.provider(Some(*version)).await?;
            session.register_table(name.as_ref(), provider).context(doing)?;
        }
        let frame = run_batch(&session, lookup.statement()?).await?;
        let columns = lookup.schema.fields().iter().map(|field| ident(field.name().as_str()));
        let frame = frame.select(columns.collect::<Vec<_>>()).context(doing)?;
        let mut stream = frame.execute_stream().await.context(doing)?;
        let (mut rows, mut count, mut bytes) = (Vec::new(), 0, 0);
        while let Some(batch) = stream.try_next().await.context(doing)? {
            count += batch.num_rows();
            bytes += batch.get_array_memory_size();
            check_size(&tables, count, bytes)?;
            let columns = batch.columns().to_vec();
            rows.push(RecordBatch::try_new(Arc::clone(&lookup.schema), columns).context(doing)?);
        }
        Ok(rows)
    }
}

fn check_size(tables: &str, rows: usize, bytes: usize) -> Result<()> {
    let too = if rows > LOOKUP_ROWS_MAX {
        format!("more than {LOOKUP_ROWS_MAX} rows")
    } else if bytes > LOOKUP_BYTES_MAX {
        format!("more than {} MiB", LOOKUP_BYTES_MAX >> 20)
    } else {
        return Ok(());
    };
    Err(Error::usage(format!(
        "a query is joined with `{tables}`, of which it would hold {too}: join only what it needs, like \
         `JOIN (SELECT key, … FROM {} WHERE … GROUP BY key) h ON …`",
        tables.split('`').next().unwrap_or(tables)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_that_is_too_large_names_its_table_and_the_remedy() {
        assert!(check_size("cards", LOOKUP_ROWS_MAX, LOOKUP_BYTES_MAX).is_ok());
        for (rows, bytes, says) in [(LOOKUP_ROWS_MAX + 1, 0, "1000000 rows"), (1, LOOKUP_BYTES_MAX + 1, "256 MiB")] {
            let error = check_size("cards`, `shops", rows, bytes).unwrap_err();
            assert!(matches!(&error, Error::Usage(m) if m.contains(says) && m.contains("FROM cards WHERE")), "{error}");
        }
    }
}
