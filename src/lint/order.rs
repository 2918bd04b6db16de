//! The order of rows in files, as far as the ranges of their pages show it.
//!
//! The one law: rows that lie in order are never called out of order. So only the first column of the order is judged, by
//! values that are whole; what lies within one page nobody sees from here.

use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;

use super::log::TableLog;
use super::{Linted, Rule};

/// Text that is longer may have been cut by the writer of the index, whose usual limit is twice as much.
const TEXT_BYTES_WHOLE: usize = 32;

/// The least or the greatest value of a page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    /// Integers, days, microseconds.
    Whole(i64),
    Text(Vec<u8>),
}

/// Judges the order of one file, where the table says in which one its rows lie.
pub(super) fn check(path: &str, footer: &ParquetMetaData, log: &TableLog, linted: &mut Linted) {
    let (Some(first), Some(index)) = (log.sort_by().next(), footer.column_index()) else { return };
    let leaves = footer.file_metadata().schema_descr().columns();
    let Some(leaf) = leaves.iter().position(|leaf| leaf.path().string() == first) else { return };
    let pages: Vec<(Bound, Bound)> = index.iter().filter_map(|group| group.get(leaf)).flat_map(bounds).collect();
    if let Some(at) = pages.windows(2).position(|pages| !is_in_order(&pages[0], &pages[1])) {
        let what = format!("page {} of `{first}` holds less than the one before; rows should lie by it", at + 2);
        linted.find(Rule::RowOrder, path, what);
    }
}

/// The range of each page that has one.
fn bounds(pages: &ColumnIndexMetaData) -> Vec<(Bound, Bound)> {
    let text = |value: &[u8]| Bound::Text(value.to_vec());
    match pages {
        ColumnIndexMetaData::INT32(pages) => {
            let ranges = pages.min_values_iter().zip(pages.max_values_iter());
            ranges
                .filter_map(|(min, max)| Some((Bound::Whole(i64::from(*min?)), Bound::Whole(i64::from(*max?)))))
                .collect()
        }
        ColumnIndexMetaData::INT64(pages) => {
            let ranges = pages.min_values_iter().zip(pages.max_values_iter());
            ranges.filter_map(|(min, max)| Some((Bound::Whole(*min?), Bound::Whole(*max?)))).collect()
        }
        ColumnIndexMetaData::BYTE_ARRAY(pages) => {
            let ranges = pages.min_values_iter().zip(pages.max_values_iter());
            ranges.filter_map(|(min, max)| Some((text(min?), text(max?)))).collect()
        }
        _ => Vec::new(),
    }
}

fn is_in_order(page: &(Bound, Bound), next: &(Bound, Bound)) -> bool {
    let grows = page.0 <= next.0 && page.1 <= next.1;
    grows && (!page.1.is_whole() || !next.0.is_whole() || page.1 <= next.0)
}

impl Bound {
    /// Whether it is the value itself: a greatest value that was cut is greater than all there are.
    fn is_whole(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Text(text) => text.len() <= TEXT_BYTES_WHOLE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_in_order_may_share_a_value_and_cut_text_proves_nothing() {
        let whole = |min, max| (Bound::Whole(min), Bound::Whole(max));
        assert!(is_in_order(&whole(1, 5), &whole(5, 5)) && is_in_order(&whole(5, 5), &whole(5, 9)));
        assert!(!is_in_order(&whole(1, 5), &whole(4, 9)) && !is_in_order(&whole(4, 9), &whole(1, 3)));
        let text = |min: &str, max: &str| (Bound::Text(min.into()), Bound::Text(max.into()));
        let long = "y".repeat(TEXT_BYTES_WHOLE + 1);
        assert!(is_in_order(&text("a", &long), &text("x", &long)));
        assert!(!is_in_order(&text("a", "y"), &text("x", "z")));
    }
}
