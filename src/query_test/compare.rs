//! What differs between two sets of rows, cell by cell.
//!
//! The one law: rows are a multiset. Equal rows leave first; of the rest, those most alike are shown as one row with
//! changed cells, what then has no partner as missing or unexpected.

use std::collections::HashMap;
use std::fmt;

use super::expected::Rows;

/// Rows shown of one difference; more say no more.
const SHOWN_MAX: usize = 10;
/// Rows of each side that are paired by likeness; it costs their product.
const PAIRED_MAX: usize = 500;
/// Floats may differ in the last digits: sums are associative only in exact types.
const FLOAT_TOLERANCE: f64 = 1e-9;

/// How found rows differ from the expected ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    columns: Vec<String>,
    /// Expected and found, for rows that are alike.
    changed: Vec<(Vec<String>, Vec<String>)>,
    missing: Vec<Vec<String>>,
    unexpected: Vec<Vec<String>>,
}

/// How `found` differs from `expected`, of equal columns; `None` when it does not.
pub(super) fn compare(expected: &Rows, found: &Rows) -> Option<Difference> {
    let mut counts: HashMap<&[String], usize> = HashMap::new();
    for row in &found.rows {
        *counts.entry(row).or_default() += 1;
    }
    let mut missing = Vec::new();
    for row in &expected.rows {
        match counts.get_mut(row.as_slice()) {
            Some(count) if *count > 0 => *count -= 1,
            _ => missing.push(row.clone()),
        }
    }
    let mut unexpected = Vec::new();
    for row in &found.rows {
        if let Some(count) = counts.get_mut(row.as_slice())
            && *count > 0
        {
            *count -= 1;
            unexpected.push(row.clone());
        }
    }
    let changed = pair(&mut missing, &mut unexpected, &expected.floats);
    let differs = !changed.is_empty() || !missing.is_empty() || !unexpected.is_empty();
    differs.then(|| Difference { columns: expected.columns.clone(), changed, missing, unexpected })
}

/// Moves out the rows that are alike; those equal but for the last digits of a float vanish.
fn pair(missing: &mut Vec<Vec<String>>, unexpected: &mut Vec<Vec<String>>, floats: &[bool]) -> Vec<Pair> {
    if missing.len() > PAIRED_MAX || unexpected.len() > PAIRED_MAX {
        return Vec::new();
    }
    let alike = |a: &[String], b: &[String]| {
        (0..floats.len()).filter(|column| same(&a[*column], &b[*column], floats[*column])).count()
    };
    let mut scores = Vec::new();
    for (m, expected) in missing.iter().enumerate() {
        for (u, found) in unexpected.iter().enumerate() {
            let score = alike(expected, found);
            if 2 * score >= floats.len() {
                scores.push((std::cmp::Reverse(score), m, u));
            }
        }
    }
    scores.sort_unstable();
    let (mut expected_taken, mut found_taken) = (vec![false; missing.len()], vec![false; unexpected.len()]);
    let mut changed = Vec::new();
    for (score, m, u) in scores {
        if expected_taken[m] || found_taken[u] {
            continue;
        }
        (expected_taken[m], found_taken[u]) = (true, true);
        if score.0 < floats.len() {
            changed.push((missing[m].clone(), unexpected[u].clone()));
        }
    }
    let mut taken = expected_taken.into_iter();
    missing.retain(|_| !taken.next().unwrap_or(false));
    let mut taken = found_taken.into_iter();
    unexpected.retain(|_| !taken.next().unwrap_or(false));
    changed
}

/// An expected row and the found one that is most like it.
type Pair = (Vec<String>, Vec<String>);

fn same(a: &str, b: &str, is_float: bool) -> bool {
    if a == b || !is_float {
        return a == b;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => (x - y).abs() <= FLOAT_TOLERANCE * x.abs().max(y.abs()),
        _ => false,
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts =
            [(self.changed.len(), "differ"), (self.missing.len(), "missing"), (self.unexpected.len(), "unexpected")];
        let counts: Vec<String> =
            counts.iter().filter(|(rows, _)| *rows > 0).map(|(rows, what)| format!("{rows} {what}")).collect();
        write!(f, "rows: {}", counts.join(", "))?;
        for (expected, found) in self.changed.iter().take(SHOWN_MAX) {
            let same = self.columns.iter().zip(expected).zip(found).filter(|((_, a), b)| a == b);
            let row: Vec<String> = same.map(|((column, value), _)| format!("{column}={value}")).collect();
            write!(f, "\n  in {}", row.join(", "))?;
            for ((column, a), b) in self.columns.iter().zip(expected).zip(found).filter(|((_, a), b)| a != b) {
                write!(f, "\n     {column}: expected {a}, found {b}")?;
            }
        }
        for (mark, rows) in [("- missing   ", &self.missing), ("+ unexpected", &self.unexpected)] {
            for row in rows.iter().take(SHOWN_MAX) {
                let row: Vec<String> = self.columns.iter().zip(row).map(|(c, v)| format!("{c}={v}")).collect();
                write!(f, "\n  {mark} {}", row.join(", "))?;
            }
        }
        let shown = |rows: usize| rows.min(SHOWN_MAX);
        let all = [self.changed.len(), self.missing.len(), self.unexpected.len()];
        let more: usize = all.iter().map(|rows| rows - shown(*rows)).sum();
        if more > 0 {
            write!(f, "\n  … and {more} more rows")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[&str; 3]]) -> Rows {
        let mut rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        rows.sort();
        Rows { columns: ["city", "n", "mean"].map(str::to_owned).to_vec(), floats: vec![false, false, true], rows }
    }

    #[test]
    fn rows_are_a_multiset_and_floats_have_a_tolerance() {
        let expected = rows(&[["a", "1", "0.3"], ["b", "2", "1"], ["b", "2", "1"]]);
        assert_eq!(
            compare(&expected, &rows(&[["b", "2", "1"], ["a", "1", "0.30000000000000004"], ["b", "2", "1"]])),
            None
        );
        let twice = compare(&expected, &rows(&[["b", "2", "1"], ["a", "1", "0.3"]])).unwrap();
        assert_eq!(twice.to_string(), "rows: 1 missing\n  - missing    city=b, n=2, mean=1");
    }

    #[test]
    fn a_difference_is_shown_cell_by_cell() {
        let expected = rows(&[["a", "1", "0.5"], ["b", "2", "1"], ["c", "3", "7"]]);
        let found = rows(&[["a", "4", "0.5"], ["b", "2", "1"], ["d", "9", "8"]]);
        let shown = "rows: 1 differ, 1 missing, 1 unexpected\n  in city=a, mean=0.5\n     n: expected 1, found 4\n  \
                     - missing    city=c, n=3, mean=7\n  + unexpected city=d, n=9, mean=8";
        assert_eq!(compare(&expected, &found).unwrap().to_string(), shown);
    }
}
