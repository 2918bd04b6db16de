//! Two tables as multisets of rows: which rows one has more often than the other.
//!
//! The one law: everything but floats is compared exactly; floats of rows that are equal otherwise may differ by a
//! relative tolerance, because sums of floats depend on the order of rows. Only rows that differ leave DataFusion.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{cast, col};
use datafusion::prelude::SessionContext;

use super::rows::numbers;
use super::scans::{for_each_batch, quoted};
use crate::error::{Context, Result};

const EXPECTED: &str = "__expected";
const FOUND: &str = "__found";

/// Differences told one by one; the rest is counted.
const LISTED_MAX: usize = 20;

/// How two tables are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// Largest relative difference of two floats that count as equal.
    pub tolerance: f64,
    /// Only rows of `expected` are looked for; `found` may have more.
    pub missing_only: bool,
    /// Columns that are not compared: they are approximate.
    pub left_out: &'a BTreeSet<String>,
}

/// One difference, as text: the words of the row, and what is said of its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    Missing { row: String, says: String },
    Surplus { row: String, says: String },
    Different { row: String, says: String },
}

/// What a comparison gave.
#[derive(Debug, Default)]
pub(super) struct Differences {
    pub listed: Vec<Difference>,
    pub more: u64,
}

/// Columns by how they are compared.
#[derive(Debug)]
struct Columns {
    /// Texts, dates, times, truth values: what a reader knows a row by.
    words: Vec<String>,
    /// Whole numbers and decimals.
    exact: Vec<String>,
    floats: Vec<String>,
}

/// Compares two tables of equal column names; `expected` is cast to the types of `found`.
///
/// # Errors
/// [`crate::Error::External`] when one of them cannot be computed.
pub(super) async fn compare(
    session: &SessionContext,
    expected: DataFrame,
    found: DataFrame,
    rules: Rules<'_>,
) -> Result<Differences> {
    let what = || "comparing a table with its query";
    let schema: SchemaRef = Arc::new(found.schema().as_arrow().clone());
    let typed = schema.fields().iter().map(|f| cast(col(quoted(f.name())), f.data_type().clone()).alias(f.name()));
    let expected = expected.select(typed.collect::<Vec<_>>()).context(what)?;
    session.register_table(EXPECTED, expected.into_view()).context(what)?;
    session.register_table(FOUND, found.into_view()).context(what)?;
    let columns = Columns::of(&schema, rules);
    let mut pairs = Pairs::new(&columns);
    for_each_batch(session, &statement(&columns, rules), |batch| pairs.take(batch)).await?;
    pairs.close();
    session.deregister_table(EXPECTED).context(what)?;
    session.deregister_table(FOUND).context(what)?;
    Ok(pairs.differences)
}

impl Columns {
    fn of(schema: &SchemaRef, rules: Rules<'_>) -> Self {
        let mut columns = Self { words: Vec::new(), exact: Vec::new(), floats: Vec::new() };
        for field in schema.fields().iter().filter(|field| !rules.left_out.contains(field.name())) {
            let name = field.name().clone();
            match field.data_type() {
                DataType::Float16 | DataType::Float32 | DataType::Float64 => columns.floats.push(name),
                number if number.is_numeric() => columns.exact.push(name),
                _ => columns.words.push(name),
            }
        }
        columns
    }

    fn keys(&self) -> impl Iterator<Item = &String> {
        self.words.iter().chain(&self.exact)
    }
}

/// Rows grouped by everything exact, each side counted; groups that are equal fall away.
fn statement(columns: &Columns, rules: Rules<'_>) -> String {
    let keys: Vec<String> = columns.keys().map(|name| quoted(name)).collect();
    let all: Vec<String> = columns.keys().chain(&columns.floats).map(|name| quoted(name)).collect();
    let (keys, all) = (keys.join(", "), all.join(", "));
    let mut unequal = vec![match rules.missing_only {
        true => "sum(e) > sum(f)".to_owned(),
        false => "sum(e) <> sum(f)".to_owned(),
    }];
    let mut shown = String::new();
    for name in &columns.floats {
        let side = |aggregate: &str, side: &str| format!("{aggregate}({}) FILTER (WHERE {side} = 1)", quoted(name));
        for aggregate in ["min", "max", "sum"] {
            let (e, f) = (side(aggregate, "e"), side(aggregate, "f"));
            let tolerance = format!("CAST('{:e}' AS DOUBLE) * greatest(abs({e}), abs({f}))", rules.tolerance);
            let both_null = format!("({e} IS NULL AND {f} IS NULL)");
            unequal.push(format!("NOT ({both_null} OR coalesce({e} = {f} OR abs({e} - {f}) <= {tolerance}, false))"));
        }
        shown.push_str(&format!(", {}, {}", side("min", "e"), side("min", "f")));
    }
    // Rows of one side only are kept whatever their floats; with `missing_only` a surplus is nobody's business.
    let having = match rules.missing_only {
        true => format!("sum(e) > 0 AND ({})", unequal.join(" OR ")),
        false => unequal.join(" OR "),
    };
    format!(
        "SELECT sum(e), sum(f), {keys}{shown} FROM (SELECT {all}, 1 AS e, 0 AS f FROM {EXPECTED} \
         UNION ALL SELECT {all}, 0 AS e, 1 AS f FROM {FOUND}) GROUP BY {keys} HAVING {having} ORDER BY {keys}"
    )
}

/// A row that one side has more often.
#[derive(Debug)]
struct OneSided {
    row: String,
    values: Vec<(String, String)>,
    is_expected: bool,
    times: u64,
}

/// Brings a missing and a surplus row with the same words together: that is one row with other numbers.
#[derive(Debug)]
struct Pairs<'a> {
    columns: &'a Columns,
    waiting: Option<OneSided>,
    differences: Differences,
}

impl<'a> Pairs<'a> {
    fn new(columns: &'a Columns) -> Self {
        Self { columns, waiting: None, differences: Differences::default() }
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let options = FormatOptions::default().with_null("null");
        let shown = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
        let shown = shown.collect::<std::result::Result<Vec<_>, _>>().context(|| "showing a difference")?;
        let (expected, found) = (numbers(batch, 0)?, numbers(batch, 1)?);
        let (words, exact) = (self.columns.words.len(), self.columns.exact.len());
        for row in 0..batch.num_rows() {
            let text = |column: usize| shown[2 + column].value(row).to_string();
            let pair = |(at, name): (usize, &String)| (name.clone(), text(at));
            let key: Vec<_> = self.columns.words.iter().enumerate().map(pair).collect();
            let mut values: Vec<_> =
                self.columns.exact.iter().enumerate().map(|(at, name)| (name.clone(), text(words + at))).collect();
            let floats = self.columns.floats.iter().enumerate();
            let floats: Vec<_> = floats
                .map(|(at, name)| (name, text(words + exact + 2 * at), text(words + exact + 2 * at + 1)))
                .collect();
            let (e, f) = (expected.value(row), found.value(row));
            let row = joined(&key);
            if e == f {
                let off = floats.iter().filter(|(_, e, f)| e != f);
                let says: Vec<_> = off.map(|(name, e, f)| format!("{name} is {f}, recomputed {e}")).collect();
                self.push(Difference::Different { row, says: says.join(", ") }, 1);
                continue;
            }
            let is_expected = e > f;
            values.extend(floats.into_iter().map(|(name, e, f)| (name.clone(), if is_expected { e } else { f })));
            self.match_up(OneSided { row, values, is_expected, times: e.abs_diff(f) });
        }
        Ok(())
    }

    fn match_up(&mut self, next: OneSided) {
        match self.waiting.take() {
            Some(first)
                if first.row == next.row && first.is_expected != next.is_expected && first.times == next.times =>
            {
                let (expected, found) = if first.is_expected { (&first, &next) } else { (&next, &first) };
                let both = found.values.iter().zip(&expected.values).filter(|(f, e)| f != e);
                let says: Vec<_> = both.map(|((name, f), (_, e))| format!("{name} is {f}, recomputed {e}")).collect();
                let says = says.join(", ");
                self.push(Difference::Different { row: next.row, says }, next.times);
            }
            first => {
                first.into_iter().for_each(|first| self.push_one_sided(first));
                self.waiting = Some(next);
            }
        }
    }

    fn close(&mut self) {
        if let Some(last) = self.waiting.take() {
            self.push_one_sided(last);
        }
    }

    fn push_one_sided(&mut self, one: OneSided) {
        let OneSided { row, values, is_expected, times } = one;
        let times_said = if times > 1 { format!("{times} times ") } else { String::new() };
        let says = format!("{times_said}{}", joined(&values));
        let difference =
            if is_expected { Difference::Missing { row, says } } else { Difference::Surplus { row, says } };
        self.push(difference, times);
    }

    fn push(&mut self, difference: Difference, rows: u64) {
        if self.differences.listed.len() < LISTED_MAX {
            self.differences.listed.push(difference);
        } else {
            self.differences.more += rows;
        }
    }
}

fn joined(values: &[(String, String)]) -> String {
    values.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql;

    const EXACT: Rules<'_> = Rules { tolerance: 1e-9, missing_only: false, left_out: &BTreeSet::new() };

    /// Rows as `(city, transactions, amount, mean)`.
    async fn differences(expected: &[&str], found: &[&str], rules: Rules<'_>) -> Differences {
        let session = sql::session();
        let table = |rows: &[&str]| {
            let rows = rows.iter().map(|row| format!("({row})")).collect::<Vec<_>>().join(", ");
            format!(
                "SELECT column1 AS city, CAST(column2 AS BIGINT) AS transactions, CAST(column3 AS DECIMAL(30,2)) AS amount, \
                 CAST(column4 AS DOUBLE) AS mean FROM (VALUES {rows})"
            )
        };
        let expected = session.sql(&table(expected)).await.unwrap();
        let found = session.sql(&table(found)).await.unwrap();
        compare(&session, expected, found, rules).await.unwrap()
    }

    fn different(row: &str, says: &str) -> Difference {
        Difference::Different { row: row.into(), says: says.into() }
    }

    #[tokio::test]
    async fn equal_multisets_are_equal_in_any_order_and_floats_within_the_tolerance() {
        let a = ["'Bern', 1, 2.50, 2.5", "'Bern', 1, 2.50, 2.5", "'Rom', 2, 3.00, NULL"];
        let b = ["'Rom', 2, 3.00, NULL", "'Bern', 1, 2.50, 2.5", "'Bern', 1, 2.50, 2.5000000001"];
        assert!(differences(&a, &b, EXACT).await.listed.is_empty());
        let off = differences(&a[1..], &["'Rom', 2, 3.00, NULL", "'Bern', 1, 2.50, 2.500001"], EXACT).await;
        assert_eq!(off.listed, [different("city Bern", "mean is 2.500001, recomputed 2.5")]);
        let null = differences(&a[2..], &["'Rom', 2, 3.00, 1.0"], EXACT).await;
        assert_eq!(null.listed, [different("city Rom", "mean is 1.0, recomputed null")]);
    }

    #[tokio::test]
    async fn a_cent_a_missing_row_and_a_surplus_row_are_told_apart() {
        let a = ["'Bern', 1, 2.50, 0.0", "'Oslo', 1, 1.00, 0.0"];
        let b = ["'Bern', 1, 2.51, 0.0", "'Rom', 1, 1.00, 0.0"];
        let says = || "transactions 1, amount 1.00, mean 0.0".to_owned();
        assert_eq!(
            differences(&a, &b, EXACT).await.listed,
            [
                different("city Bern", "amount is 2.51, recomputed 2.50"),
                Difference::Missing { row: "city Oslo".into(), says: says() },
                Difference::Surplus { row: "city Rom".into(), says: says() },
            ]
        );
        let missing = differences(&a, &b, Rules { missing_only: true, ..EXACT }).await.listed;
        assert_eq!(missing.len(), 2, "{missing:?}");
        let left_out = BTreeSet::from(["amount".to_owned()]);
        let beside = Rules { left_out: &left_out, ..EXACT };
        let others = differences(&a[..1], &b[..1], beside).await.listed;
        assert!(others.is_empty(), "{others:?}");
        let count = differences(&a[..1], &["'Bern', 2, 2.51, 0.0"], beside).await.listed;
        assert_eq!(count, [different("city Bern", "transactions is 2, recomputed 1")]);
        // The same row twice where once is right.
        let doubled = differences(&a[..1], &[a[0], a[0]], EXACT).await.listed;
        let says = "transactions 1, amount 2.50, mean 0.0".into();
        assert_eq!(doubled, [Difference::Surplus { row: "city Bern".into(), says }]);
    }

    #[tokio::test]
    async fn differences_beyond_the_bound_are_counted() {
        let rows: Vec<String> = (0..50).map(|n| format!("'c{n}', 1, 1.00, 0.0")).collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let differences = differences(&rows, &["'none', 1, 1.00, 0.0"], EXACT).await;
        assert_eq!((differences.listed.len(), differences.more), (LISTED_MAX, 51 - LISTED_MAX as u64));
    }
}
