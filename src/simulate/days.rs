//! The two years of everybody, a day at a time.
//!
//! The one law: the days together have the law of the generator, which draws a date for each purchase of a customer;
//! yet no day needs another one's rows, and none depends on which day is asked for first.

use rand_distr::{Binomial, Distribution};

use super::calendar::{DAYS, day_start, day_weights};
use super::profiles::Segment;
use super::purchase::{World, generator, time_of_day};
use super::row::SimulatedRow;

/// All rows, a day at a time, each day's in order of time.
pub(super) struct DaysOfRows<'a> {
    world: &'a World,
    seed: u64,
    day: usize,
    first: usize,
    end: usize,
    /// Purchases each customer has yet to make.
    remaining: Vec<u64>,
    /// Of each segment and day: the day's share of all weight from it on.
    shares: Vec<(Segment, Vec<f64>)>,
}

impl<'a> DaysOfRows<'a> {
    /// Rows of the simulated days `first..end`.
    pub fn new(world: &'a World, seed: u64, first: usize, end: usize) -> Self {
        let remaining = world.customers.iter().map(|customer| u64::from(customer.purchases)).collect();
        let shares = Segment::OBSERVED.map(|(segment, ..)| (segment, shares(&day_weights(segment)))).to_vec();
        Self { world, seed, day: 0, first, end, remaining, shares }
    }

    /// How many purchases each customer makes on the day: binomials of what remains, together the multinomial that
    /// drawing a date for each purchase gives.
    fn counts(&mut self, day: usize) -> Vec<u64> {
        let mut rng = generator(self.seed, "counts", day as u64);
        let counts = self.world.customers.iter().zip(&mut self.remaining).map(|(customer, remaining)| {
            let (_, shares) =
                self.shares.iter().find(|(segment, _)| *segment == customer.segment).expect("all segments are there");
            let count = Binomial::new(*remaining, shares[day]).expect("a share is between 0 and 1").sample(&mut rng);
            *remaining -= count;
            count
        });
        counts.collect()
    }

    fn rows(&self, day: usize, counts: &[u64]) -> Vec<SimulatedRow> {
        let mut rng = generator(self.seed, "purchases", day as u64);
        let start = day_start(day);
        let mut rows = Vec::new();
        for (index, (customer, &count)) in self.world.customers.iter().zip(counts).enumerate() {
            let frauds = customer.burst.map_or(0, |burst| burst.on(day));
            let is_fraud = frauds > 0;
            // On a day with fraud a card sees nothing else.
            let (count, profile) = (if is_fraud { u64::from(frauds) } else { count }, customer.segment.profile());
            let spending = if is_fraud { &profile.fraud } else { &profile.legit };
            for _ in 0..count {
                let choice = spending.choose(&mut rng);
                let time = start + i64::from(time_of_day(choice, is_fraud, &mut rng));
                rows.push(SimulatedRow::simulated(time, self.world.purchase(index, choice, is_fraud, &mut rng)));
            }
        }
        rows.sort_by_key(|row| row.unix_time);
        rows
    }
}

impl Iterator for DaysOfRows<'_> {
    type Item = Vec<SimulatedRow>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.day < self.end {
            let day = self.day;
            let counts = self.counts(day);
            self.day += 1;
            if day >= self.first {
                return Some(self.rows(day, &counts));
            }
        }
        None
    }
}

fn shares(weights: &[f64; DAYS]) -> Vec<f64> {
    let mut rest = 0.0;
    let from_the_end = weights.iter().rev().map(|weight| {
        rest += weight;
        weight / rest
    });
    let mut shares: Vec<f64> = from_the_end.collect();
    shares.reverse();
    shares
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use chrono::{Datelike, NaiveDate};

    use super::super::calendar::{SHARED_LABEL, at, labelled};
    use super::super::profiles::CATEGORIES;
    use super::*;

    fn assert_near(what: &str, found: f64, expected: f64, relative: f64) {
        assert!((found / expected - 1.0).abs() < relative, "{what}: {found}, expected {expected}");
    }

    fn hour(row: &SimulatedRow) -> i64 {
        row.unix_time.rem_euclid(86_400) / 3_600
    }

    /// All rows of the two years, of fewer cards than the data set has.
    fn two_years(cards: usize) -> (World, Vec<SimulatedRow>) {
        let world = World::new(11, cards);
        let rows = DaysOfRows::new(&world, 11, 0, DAYS).flatten().collect();
        (world, rows)
    }

    /// The published check of the model (expectations of the generator's own weights for its customers).
    #[test]
    fn the_two_years_follow_the_law() {
        let (world, rows) = two_years(320);
        let (frauds, legit): (Vec<&SimulatedRow>, Vec<_>) = rows.iter().partition(|row| row.is_fraud());
        assert_near("rows a card", legit.len() as f64 / 320.0, 1_848_725.0 / 981.0, 0.06);
        assert_near("fraud share", frauds.len() as f64 / rows.len() as f64, 0.00521, 0.08);
        check_categories(&legit);
        check_days(&rows);
        check_frauds(&world, &frauds, &legit);
        let ids: BTreeSet<u128> = rows.iter().map(|row| row.purchase.id).collect();
        assert_eq!(ids.len(), rows.len());
        assert!(rows.is_sorted_by_key(|row| row.unix_time));
    }

    fn check_categories(legit: &[&SimulatedRow]) {
        let of = |category: &str| {
            let index = CATEGORIES.iter().position(|name| *name == category).unwrap();
            legit.iter().filter(move |row| row.purchase.category == index)
        };
        #[rustfmt::skip]
        let shares = [
            ("shopping_net", 7.46), ("misc_net", 4.85), ("grocery_pos", 9.45), ("shopping_pos", 8.94),
            ("gas_transport", 10.16), ("travel", 3.16), ("misc_pos", 6.18), ("grocery_net", 3.52),
            ("personal_care", 7.02), ("entertainment", 7.27), ("kids_pets", 8.72), ("food_dining", 7.10),
            ("health_fitness", 6.67), ("home", 9.49),
        ];
        for (category, percent) in shares {
            assert_near(category, of(category).count() as f64 * 100.0 / legit.len() as f64, percent, 0.06);
        }
        for (category, share) in
            [("misc_net", 0.81), ("misc_pos", 0.58), ("shopping_net", 0.43), ("entertainment", 0.18)]
        {
            let morning = of(category).filter(|row| hour(row) < 12).count() as f64;
            assert!((morning / of(category).count() as f64 - share).abs() < 0.05, "{category}: {morning}");
        }
        for (category, share) in [("gas_transport", 1.0), ("grocery_net", 1.0), ("travel", 0.0), ("home", 0.0)] {
            let morning = of(category).filter(|row| hour(row) < 12).count() as f64;
            assert_eq!(morning / of(category).count() as f64, share, "{category}");
        }
        for (category, mean) in [("grocery_pos", 113.8), ("gas_transport", 63.6), ("misc_net", 71.3), ("home", 57.9)] {
            let cents: i64 = of(category).map(|row| row.purchase.cents).sum();
            assert_near(category, cents as f64 / 100.0 / of(category).count() as f64, mean, 0.05);
        }
        let mut cents: Vec<i64> = legit.iter().map(|row| row.purchase.cents).collect();
        cents.sort_unstable();
        assert_eq!(cents[0].min(100), 100, "never below one");
        assert_near("median amount", cents[cents.len() / 2] as f64, 4_610.0, 0.05);
        assert_near("mean amount", cents.iter().sum::<i64>() as f64 / cents.len() as f64, 6_670.0, 0.06);
    }

    fn check_days(rows: &[SimulatedRow]) {
        let total = 1_858_376.0;
        let (mut months, mut days): (BTreeMap<_, u64>, BTreeMap<_, u64>) = Default::default();
        for row in rows {
            let date = labelled(row.unix_time).date();
            *months.entry((date.year(), date.month())).or_default() += 1;
            *days.entry(date).or_default() += 1;
        }
        let all = rows.len() as f64;
        for (month, count) in [(7, 85.7), (8, 89.2), (9, 68.9), (10, 69.0), (11, 72.7), (12, 139.6)] {
            assert_near("month", months[&(2020, month)] as f64 / all, count * 1_000.0 / total, 0.03);
        }
        for (day, count) in [(1, 2_304.0), (2, 1_111.0), (3, 1_247.0), (4, 1_383.0)] {
            let date = NaiveDate::from_ymd_opt(2019, 1, day).unwrap();
            assert_near("day", days[&date] as f64 / all, count / total, 0.12);
        }
        assert_near("busiest day", *days.values().max().unwrap() as f64 / all, 6_454.0 / total, 0.05);
        assert_near("the shared label", days[&SHARED_LABEL] as f64 / all, 3_100.0 / total, 0.06);
        assert!(!days.contains_key(&NaiveDate::from_ymd_opt(2020, 2, 29).unwrap()));
    }

    fn check_frauds(world: &World, frauds: &[&SimulatedRow], legit: &[&SimulatedRow]) {
        let share = |hours: &[i64]| {
            let found = frauds.iter().filter(|row| hours.contains(&hour(row))).count();
            found as f64 / frauds.len() as f64
        };
        assert!((share(&[22, 23]) - 0.506).abs() < 0.04 && (share(&[0, 1, 2, 3]) - 0.340).abs() < 0.04);
        let mut cents: Vec<i64> = frauds.iter().map(|row| row.purchase.cents).collect();
        cents.sort_unstable();
        assert_near("mean fraud", cents.iter().sum::<i64>() as f64 / cents.len() as f64, 53_000.0, 0.06);
        // Not the median: it lies in a gap between what groceries and what home goods cost a thief.
        assert_near("99th percentile", cents[cents.len() * 99 / 100] as f64, 117_700.0, 0.05);
        for (category, frauds_of) in [("shopping_net", 2_227.0), ("grocery_pos", 2_227.0), ("misc_net", 1_195.0)] {
            let index = CATEGORIES.iter().position(|name| *name == category).unwrap();
            let found = frauds.iter().filter(|row| row.purchase.category == index).count();
            assert_near(category, found as f64 / frauds.len() as f64, frauds_of / 9_651.0, 0.12);
        }
        let mut dates: BTreeMap<usize, BTreeSet<NaiveDate>> = BTreeMap::new();
        for row in frauds {
            dates.entry(row.purchase.customer).or_default().insert(at(row.unix_time).date());
        }
        assert_near("attacked cards", dates.len() as f64 / world.customers.len() as f64, 99.0 / 101.0, 0.02);
        for dates in dates.values() {
            assert!((*dates.last().unwrap() - *dates.first().unwrap()).num_days() <= 1, "one burst a card");
        }
        let clash = |row: &&&SimulatedRow| {
            dates.get(&row.purchase.customer).is_some_and(|dates| dates.contains(&at(row.unix_time).date()))
        };
        assert_eq!(legit.iter().filter(clash).count(), 0, "no purchase of a card on the date of its fraud");
    }
}
