//! What one query reads, and what Athena and Spectrum would bill for it.
//!
//! The one law: the query runs, and what its scans ask of the store is counted. The scan leaves out partitions, files, row
//! groups, pages and columns as engines on AWS do; one that does without pages' indexes reads more.

use std::collections::BTreeSet;

use serde::Serialize;

use super::prices::{Prices, Scan};
use crate::batch::LakeView;
use crate::error::Result;
use crate::lake::Meter;
use crate::sql::Params;

/// Dollars of one engine for one query.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Billed {
    pub bytes: u64,
    pub usd: f64,
}

/// What a query read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueryCost {
    pub rows: u64,
    /// Tables it names, and the bytes of their live files.
    pub tables: BTreeSet<String>,
    pub stored_bytes: u64,
    /// Of data files: footers, indexes, pages.
    pub read_bytes: u64,
    /// `read_bytes / stored_bytes`; 0 for empty tables.
    pub read_share: f64,
    /// GET of data files, and their price.
    pub requests: u64,
    pub s3_usd: f64,
    pub athena: Billed,
    pub spectrum: Billed,
}

impl QueryCost {
    /// Runs a statement over a lake that `meter` counts.
    ///
    /// # Errors
    /// As [`LakeView::sql`].
    pub async fn measure(view: &LakeView, meter: &Meter, prices: &Prices, text: &str, params: Params) -> Result<Self> {
        let before = meter.requests();
        let (rows, stored) = view.sql_with_tables(text, params).await?;
        let asked = meter.requests().since(before);
        let (read_bytes, requests) = (asked.data_bytes_read, asked.data_get);
        let stored_bytes: u64 = stored.values().sum();
        let billed = |scan: &Scan| Billed { bytes: scan.billed_bytes(read_bytes), usd: scan.query(read_bytes) };
        Ok(Self {
            rows: rows.iter().map(|batch| batch.num_rows() as u64).sum(),
            tables: stored.into_keys().collect(),
            stored_bytes,
            read_bytes,
            read_share: if stored_bytes == 0 { 0.0 } else { read_bytes as f64 / stored_bytes as f64 },
            requests,
            s3_usd: prices.s3.requests(0.0, requests as f64),
            athena: billed(&prices.athena),
            spectrum: billed(&prices.spectrum),
        })
    }
}
