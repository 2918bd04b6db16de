//! The same people spending on a clock of the caller's: the demo's history and its present.
//!
//! The one law: what happens up to a moment depends on the seed, the start and the rates, not on how often one asks.
//! Arrivals are Poisson, so the gap to the next one is forgotten when the rate changes, without changing the law.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use rand::RngExt;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha8Rng;
use rand_distr::Exp;

use super::calendar::at;
use super::purchase::{World, generator};
use super::row::{Card, SimulatedRow};
use crate::clock::{MICROS_PER_SECOND, Micros};
use crate::error::{Error, Result};
use chrono::Timelike;

/// Frauds among all transactions: the data set's share, 9,651 of 1,852,394.
const FRAUD_SHARE: f64 = 0.0052;

/// Mean gap between two frauds on one card, in seconds: a burst of ten lasts a few minutes, so that an alert is seen
/// while it goes on. (In the data set a burst takes two days.)
const FRAUD_GAP_SECONDS: f64 = 20.0;

/// Tries to find a buyer whose card is not under attack. With more cards under attack than not, one of them buys.
const BUYER_TRIES: usize = 8;

/// Simulated transactions in order of time.
#[derive(Debug)]
pub struct Simulator {
    world: World,
    rng: ChaCha8Rng,
    /// Customers by how much they spend.
    buyers: WeightedIndex<u32>,
    /// Mean frauds of an attack.
    frauds_mean: f64,
    /// Everything up to here has been told.
    now: Micros,
    /// The next purchase, and the rate it was drawn at.
    next: Option<(Micros, f64)>,
    /// The next fraud of each card under attack, soonest first.
    frauds: BinaryHeap<Reverse<(Micros, usize)>>,
    /// Frauds yet to come of each card under attack.
    under_attack: BTreeMap<usize, u32>,
}

impl Simulator {
    /// People and merchants by `seed`; what they do by `seed` and `start` (microseconds UTC), so that a second run with
    /// another start repeats no transaction.
    ///
    /// # Errors
    /// [`Error::Usage`] when none of so few cards would ever buy.
    pub fn new(seed: u64, cards: usize, start: Micros) -> Result<Self> {
        let world = World::new(seed, cards);
        let buyers = WeightedIndex::new(world.customers.iter().map(|customer| customer.purchases))
            .map_err(|_| Error::usage(format!("`simulate.cards = {cards}` are too few to buy anything")))?;
        let frauds = world.customers.iter().map(|customer| customer.segment.profile().fraud.count);
        let frauds_mean = frauds.map(|(min, max)| f64::from(min + max) / 2.0).sum::<f64>() / cards as f64;
        Ok(Self {
            rng: generator(seed, "live", start.cast_unsigned()),
            world,
            buyers,
            frauds_mean,
            now: start,
            next: None,
            frauds: BinaryHeap::new(),
            under_attack: BTreeMap::new(),
        })
    }

    /// Time up to which all has been told.
    pub fn now(&self) -> Micros {
        self.now
    }

    /// Appends what happens in `(now, to]` at `rate` transactions a second, in order of time.
    pub fn advance(&mut self, to: Micros, rate: f64, rows: &mut Vec<SimulatedRow>) {
        // Frauds come on top of the purchases; together they make the rate.
        let purchases = rate * (1.0 - FRAUD_SHARE);
        while self.now < to {
            let purchase = self.next_purchase(purchases);
            let fraud = self.frauds.peek().map_or(Micros::MAX, |Reverse((time, _))| *time);
            self.now = purchase.min(fraud).min(to);
            if fraud <= purchase && fraud <= to {
                rows.push(self.commit_fraud());
            } else if purchase <= to {
                self.next = None;
                rows.push(self.buy());
                if self.rng.random_bool((FRAUD_SHARE / (1.0 - FRAUD_SHARE) / self.frauds_mean).clamp(0.0, 1.0)) {
                    self.attack();
                }
            }
        }
    }

    /// Leaves out the time up to `to`, and the attacks that were going on: for a clock that jumped.
    pub fn skip_to(&mut self, to: Micros) {
        if to > self.now {
            (self.now, self.next) = (to, None);
            self.frauds.clear();
            self.under_attack.clear();
        }
    }

    /// Number of customers.
    pub(super) fn customers(&self) -> usize {
        self.world.customers.len()
    }

    /// A customer's card number, all digits.
    pub(super) fn card(&self, customer: usize) -> &str {
        &self.world.customers[customer].card
    }

    /// The row as a JSON object with a token for a card number.
    pub(super) fn json(&self, row: &SimulatedRow, token: &str) -> Vec<u8> {
        let mut json = Vec::with_capacity(640);
        row.write_json(&self.world, Card::Token(token), &mut json);
        json
    }

    /// Time of the next purchase, drawn once for a rate.
    fn next_purchase(&mut self, rate: f64) -> Micros {
        match self.next {
            Some((time, drawn_at)) if drawn_at == rate => time,
            _ => {
                // A rate of zero: never.
                let gap = Exp::new(rate).map_or(f64::INFINITY, |gaps| gaps.sample(&mut self.rng));
                let time = self.now.saturating_add(micros(gap));
                self.next = Some((time, rate));
                time
            }
        }
    }

    fn buy(&mut self) -> SimulatedRow {
        let mut buyer = self.buyers.sample(&mut self.rng);
        for _ in 0..BUYER_TRIES {
            if !self.under_attack.contains_key(&buyer) {
                break;
            }
            buyer = self.buyers.sample(&mut self.rng);
        }
        self.row(buyer, false)
    }

    /// A thief gets hold of a card.
    fn attack(&mut self) {
        let card = self.rng.random_range(0..self.customers());
        if self.under_attack.contains_key(&card) {
            return;
        }
        let (min, max) = self.world.customers[card].segment.profile().fraud.count;
        let frauds = self.rng.random_range(min..=max);
        self.under_attack.insert(card, frauds);
        self.plan_fraud(card);
    }

    fn plan_fraud(&mut self, card: usize) {
        let gap = Exp::new(1.0 / FRAUD_GAP_SECONDS).map_or(0.0, |gaps| gaps.sample(&mut self.rng));
        self.frauds.push(Reverse((self.now.saturating_add(micros(gap).max(1)), card)));
    }

    /// The soonest fraud happens; its card's next one is planned.
    fn commit_fraud(&mut self) -> SimulatedRow {
        let Reverse((_, card)) = self.frauds.pop().expect("the caller saw that there is one");
        match self.under_attack.get_mut(&card) {
            Some(left) if *left > 1 => {
                *left -= 1;
                self.plan_fraud(card);
            }
            _ => {
                self.under_attack.remove(&card);
            }
        }
        self.row(card, true)
    }

    /// A purchase now: the hour says the half of the day, and that what is bought.
    fn row(&mut self, customer: usize, is_fraud: bool) -> SimulatedRow {
        let morning = at(self.now.div_euclid(MICROS_PER_SECOND)).hour() < 12;
        let profile = self.world.customers[customer].segment.profile();
        let spending = if is_fraud { &profile.fraud } else { &profile.legit };
        let choice = spending.choose_in(morning, &mut self.rng);
        SimulatedRow::live(self.now, self.world.purchase(customer, choice, is_fraud, &mut self.rng))
    }
}

/// Seconds as microseconds; far beyond any clock for the infinite.
fn micros(seconds: f64) -> Micros {
    #[expect(clippy::cast_possible_truncation, reason = "a float too large becomes the largest integer")]
    let micros = (seconds * MICROS_PER_SECOND as f64).ceil() as Micros;
    micros
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const START: Micros = 1_763_856_000 * MICROS_PER_SECOND;
    const HOUR: Micros = 3_600 * MICROS_PER_SECOND;

    fn run(seed: u64, start: Micros, steps: &[Micros], rate: f64) -> Vec<SimulatedRow> {
        let mut simulator = Simulator::new(seed, 1_000, start).unwrap();
        let mut rows = Vec::new();
        for step in steps {
            simulator.advance(start + step, rate, &mut rows);
        }
        rows
    }

    #[test]
    fn how_often_one_asks_changes_nothing() {
        let at_once = run(7, START, &[HOUR], 8.0);
        let steps: Vec<Micros> = (1..=HOUR / 777_777).map(|step| step * 777_777).chain([HOUR]).collect();
        assert_eq!(at_once, run(7, START, &steps, 8.0));
        assert!(at_once.is_sorted_by_key(|row| row.event_time));
        assert!(at_once.iter().all(|row| row.event_time > START && row.event_time <= START + HOUR));
    }

    #[test]
    fn a_second_run_repeats_no_id() {
        let ids = |start| run(7, start, &[HOUR / 10], 20.0).into_iter().map(|row| row.purchase.id);
        let both: BTreeSet<u128> = ids(START).chain(ids(START + 1)).collect();
        assert_eq!(both.len(), ids(START).count() + ids(START + 1).count());
    }

    #[test]
    fn rate_and_fraud_share_hold() {
        let rows = run(3, START, &[6 * HOUR], 15.0);
        let expected = 6.0 * 3_600.0 * 15.0;
        // The frauds come in bursts, so their number scatters more than Poisson's.
        assert!((rows.len() as f64 - expected).abs() < 2_000.0, "{} of {expected}", rows.len());
        let share = rows.iter().filter(|row| row.is_fraud()).count() as f64 / rows.len() as f64;
        assert!((share / FRAUD_SHARE - 1.0).abs() < 0.2, "{share}");
    }

    #[test]
    fn frauds_come_in_bursts_on_a_card_that_does_nothing_else() {
        let rows = run(5, START, &[HOUR], 20.0);
        let first = rows.iter().find(|row| row.is_fraud()).unwrap();
        let card = first.purchase.customer;
        let burst: Vec<_> = rows
            .iter()
            .filter(|row| {
                row.purchase.customer == card && (first.event_time..first.event_time + HOUR).contains(&row.event_time)
            })
            .collect();
        let frauds = burst.iter().filter(|row| row.is_fraud()).count();
        assert!((2..=19).contains(&frauds), "{frauds}");
        let last = burst.iter().rposition(|row| row.is_fraud()).unwrap();
        assert!(burst[..last].iter().all(|row| row.is_fraud()));
        assert!(burst[last].event_time - first.event_time < 20 * 60 * MICROS_PER_SECOND);
    }

    #[test]
    fn a_clock_that_jumps_leaves_a_gap() {
        let mut simulator = Simulator::new(7, 100, START).unwrap();
        simulator.skip_to(START + HOUR);
        let mut rows = Vec::new();
        simulator.advance(START + HOUR + MICROS_PER_SECOND, 500.0, &mut rows);
        assert!((400..600).contains(&rows.len()));
        assert!(rows[0].event_time > START + HOUR);
        assert!(Simulator::new(7, 0, START).is_err());
    }

    #[test]
    fn a_live_row_is_the_data_sets_json_with_a_token() {
        let mut simulator = Simulator::new(7, 100, START).unwrap();
        let mut rows = Vec::new();
        simulator.advance(START + MICROS_PER_SECOND, 50.0, &mut rows);
        let json: serde_json::Value = serde_json::from_slice(&simulator.json(&rows[0], "tok_1_ab")).unwrap();
        let names: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let header: Vec<&str> = super::super::row::HEADER.trim().split(',').skip(1).collect();
        assert_eq!(names, header);
        assert_eq!(json["cc_num"], "tok_1_ab");
        assert!(json["trans_date_trans_time"].as_str().unwrap().starts_with("2025-11-23 00:00:00."), "{json}");
        assert_eq!(json["unix_time"], START / MICROS_PER_SECOND - 2_557 * 86_400, "seven years hold two leap days");
    }
}
