//! One purchase: what for, how much, where. And the world it happens in.
//!
//! The one law: legitimate or not, a purchase is drawn by the same steps; only the numbers differ.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};
use sha2::{Digest, Sha256};

use super::customers::{self, Customer, with_parser_noise};
use super::merchants::{Merchants, PER_CATEGORY};
use super::profiles::{Choice, Spending};

/// Share of purchase coordinates that a careless float parser left with digits they never had.
const NOISY_PURCHASES: f64 = 0.23;

/// Share of frauds at any hour of their half-day; the others happen late at night.
const FRAUDS_AT_ANY_HOUR: f64 = 0.2;

const SECONDS_PER_HOUR: u32 = 3_600;

/// Customers and merchants of one seed.
#[derive(Debug)]
pub(super) struct World {
    pub customers: Vec<Customer>,
    pub merchants: Merchants,
}

/// What was bought, by whom.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Purchase {
    /// Index into the world's customers.
    pub customer: usize,
    /// Index into the categories.
    pub category: usize,
    /// Index among the category's merchants.
    pub merchant: usize,
    pub cents: i64,
    pub latitude: f64,
    pub longitude: f64,
    pub id: u128,
    pub is_fraud: bool,
}

impl World {
    /// The people and merchants of a seed.
    pub fn new(seed: u64, cards: usize) -> Self {
        Self {
            customers: customers::draw(cards, &mut generator(seed, "customers", 0)),
            merchants: Merchants::new(&mut generator(seed, "merchants", 0)),
        }
    }

    /// A purchase of this customer.
    pub fn purchase(&self, customer: usize, choice: Choice, is_fraud: bool, rng: &mut impl Rng) -> Purchase {
        let buyer = &self.customers[customer];
        let profile = buyer.segment.profile();
        let spending = if is_fraud { &profile.fraud } else { &profile.legit };
        Purchase {
            customer,
            category: choice.category,
            merchant: rng.random_range(0..PER_CATEGORY),
            cents: amount(spending, choice.category, rng),
            latitude: nearby(buyer.latitude, rng),
            longitude: nearby(buyer.longitude, rng),
            id: rng.random(),
            is_fraud,
        }
    }
}

/// A generator of its own for each purpose, so that what one draws does not move what another does.
pub(super) fn generator(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(seed.to_be_bytes());
    hash.update(index.to_be_bytes());
    hash.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// Cents: gamma by mean and deviation; below one unit of money a uniform draw from 1 to 10 takes its place.
fn amount(spending: &Spending, category: usize, rng: &mut impl Rng) -> i64 {
    let (mean, deviation) = spending.amounts[category];
    let gamma = Gamma::new((mean / deviation).powi(2), deviation * deviation / mean);
    let mut amount: f64 = gamma.expect("means and deviations are positive").sample(rng);
    if amount < 1.0 {
        amount = rng.random_range(1.0..10.0);
    }
    #[expect(clippy::cast_possible_truncation, reason = "amounts are far below 2^53 cents")]
    let cents = (amount * 100.0).round() as i64;
    cents
}

/// Up to a degree away, at six decimals.
fn nearby(home: f64, rng: &mut impl Rng) -> f64 {
    let away = home + rng.random_range(-1.0..1.0);
    with_parser_noise((away * 1e6).round() / 1e6, NOISY_PURCHASES, rng)
}

/// Second of the day.
pub(super) fn time_of_day(choice: Choice, is_fraud: bool, rng: &mut impl Rng) -> u32 {
    let at_night = is_fraud && !rng.random_bool(FRAUDS_AT_ANY_HOUR);
    let hours = match (choice.morning, at_night) {
        (true, false) => 0..12,
        (false, false) => 12..24,
        (true, true) => 0..4,
        (false, true) => 22..24,
    };
    rng.random_range(hours.start * SECONDS_PER_HOUR..hours.end * SECONDS_PER_HOUR)
}
