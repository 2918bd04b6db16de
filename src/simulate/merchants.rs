//! Where card holders buy: 50 merchants a category.
//!
//! The one law: names are drawn from the seed, distinct within a category. Seven of them stand in two categories, as in
//! the data set: a merchant is known by name and category together.

use std::collections::BTreeSet;

use fake::Fake;
use fake::faker::name::en::LastName;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::profiles::CATEGORIES;

/// Merchants of a category.
pub(super) const PER_CATEGORY: usize = 50;

/// Names that stand in two categories.
const SHARED: usize = 7;

const SUFFIXES: [&str; 6] = ["Inc", "LLC", "Ltd", "PLC", "Group", "and Sons"];

/// Names by category.
#[derive(Debug)]
pub(super) struct Merchants {
    names: Vec<[String; PER_CATEGORY]>,
}

impl Merchants {
    pub fn new(rng: &mut impl Rng) -> Self {
        let mut known = BTreeSet::new();
        let mut names: Vec<[String; PER_CATEGORY]> =
            CATEGORIES.iter().map(|_| std::array::from_fn(|_| unused_name(&mut known, rng))).collect();
        for pair in 0..SHARED {
            names[2 * pair + 1][0] = names[2 * pair][0].clone();
        }
        Self { names }
    }

    /// The name, without the prefix the data set puts before every one.
    pub fn name(&self, category: usize, merchant: usize) -> &str {
        &self.names[category][merchant]
    }
}

fn unused_name(known: &mut BTreeSet<String>, rng: &mut impl Rng) -> String {
    loop {
        let name = name(rng);
        if known.insert(name.clone()) {
            return name;
        }
    }
}

/// Company names in the data set's three forms; about a third hold a comma, which CSV has to quote.
fn name(rng: &mut impl Rng) -> String {
    let last: [&str; 3] = std::array::from_fn(|_| LastName().fake_with_rng(rng));
    match rng.random_range(0..100) {
        0..31 => format!("{}, {} and {}", last[0], last[1], last[2]),
        31..62 => format!("{}-{}", last[0], last[1]),
        _ => format!("{} {}", last[0], SUFFIXES.choose(rng).copied().unwrap_or_default()),
    }
}
