//! The price table: `prices.toml`, compiled in, and a file of one's own over it.
//!
//! The one law: a formula is here or nowhere, and each price says in the table where it is from. Dollars are floats: they are
//! estimates, never booked.

use std::path::Path;

use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

use crate::error::{Error, Result};

/// The commented table.
const DEFAULTS: &str = include_str!("prices.toml");

const KIB: f64 = 1024.0;
const MIB_BYTES: u64 = 1 << 20;

/// Everything `prices.toml` says; see the comments there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    pub region: String,
    pub as_of: String,
    pub s3: S3,
    pub athena: Scan,
    pub spectrum: Scan,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    pub storage_per_gb_month: f64,
    pub put_list_per_1000: f64,
    pub get_per_1000: f64,
}

/// An engine that is paid by the bytes it reads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    pub scan_per_tb: f64,
    pub scan_min_mb: u64,
}

impl Prices {
    /// Reads the compiled-in table, and over it a file, if one is named.
    ///
    /// # Errors
    /// [`Error::Usage`] for a file that is not there, an unknown key, or a price below zero.
    pub fn load(file: &Path) -> Result<Self> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if !file.as_os_str().is_empty() {
            if !file.is_file() {
                return Err(Error::usage(format!("cost.prices: no file `{}`", file.display())));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let prices: Self = figment.extract().map_err(|error| Error::usage(format!("prices: {error}")))?;
        let all = [
            prices.s3.storage_per_gb_month,
            prices.s3.put_list_per_1000,
            prices.s3.get_per_1000,
            prices.athena.scan_per_tb,
            prices.spectrum.scan_per_tb,
        ];
        match all.iter().all(|price| price.is_finite() && *price >= 0.0) {
            true => Ok(prices),
            false => Err(Error::usage("prices: a price is below zero, or no number")),
        }
    }
}

impl S3 {
    /// Dollars a month for so many bytes kept all month: `bytes / 2^30 × price`.
    pub fn storage(&self, bytes: u64) -> f64 {
        bytes as f64 / KIB.powi(3) * self.storage_per_gb_month
    }

    /// Dollars for requests: `(PUT + LIST) / 1000 × price + GET / 1000 × price`.
    pub fn requests(&self, put_list: f64, get: f64) -> f64 {
        put_list / 1_000.0 * self.put_list_per_1000 + get / 1_000.0 * self.get_per_1000
    }
}

impl Scan {
    /// Bytes billed for a query that reads so many: rounded up to the mebibyte, and no less than the minimum.
    pub fn billed_bytes(&self, read: u64) -> u64 {
        read.div_ceil(MIB_BYTES).max(self.scan_min_mb) * MIB_BYTES
    }

    /// Dollars of a query: `billed bytes / 2^40 × price`.
    pub fn query(&self, read: u64) -> f64 {
        self.billed_bytes(read) as f64 / KIB.powi(4) * self.scan_per_tb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, wanted: f64) -> bool {
        (found - wanted).abs() < 1e-12
    }

    #[test]
    fn dollars_are_those_worked_out_by_hand() {
        let prices = Prices::load(Path::new("")).unwrap();
        // 50 GB at 2.3 cents.
        assert!(close(prices.s3.storage(50 << 30), 1.15));
        // 3,000 PUT at half a cent a thousand, 10,000 GET at 0.04 cents a thousand.
        assert!(close(prices.s3.requests(3_000.0, 10_000.0), 0.015 + 0.004));
        // A byte is billed as ten megabytes: a hundred thousandth of a terabyte and a bit.
        assert_eq!(prices.athena.billed_bytes(1), 10_485_760);
        assert!(close(prices.athena.query(1), 5.0 * 10.0 / (1024.0 * 1024.0)));
        assert_eq!(prices.athena.billed_bytes((10 << 20) + 1), 11 << 20);
        assert_eq!(prices.athena.billed_bytes(12 << 20), 12 << 20);
        // Half a terabyte.
        assert!(close(prices.spectrum.query(1 << 39), 2.5));
    }

    #[test]
    fn a_file_changes_what_it_names_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eu.toml");
        std::fs::write(&path, "region = \"eu-central-1\"\n[s3]\nstorage_per_gb_month = 0.0245\n").unwrap();
        let prices = Prices::load(&path).unwrap();
        assert_eq!(prices.region, "eu-central-1");
        assert!(close(prices.s3.storage(2 << 30), 0.049) && close(prices.s3.put_list_per_1000, 0.005));
        for (text, says) in [("[s4]\nx = 1\n", "s4"), ("[s3]\nget_per_1000 = -1.0\n", "below zero")] {
            std::fs::write(&path, text).unwrap();
            let error = Prices::load(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(Prices::load(Path::new("no/such.toml")).unwrap_err().to_string().contains("no/such.toml"));
    }
}
