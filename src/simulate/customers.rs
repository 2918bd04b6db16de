//! Who holds the cards: people in segments, each with one card, one home, a count of purchases and perhaps one burst of
//! fraud to come.
//!
//! The one law: everything about a customer that does not change from row to row is drawn here, once.

use std::collections::BTreeSet;

use chrono::{Days, Months, NaiveDate};
use fake::Fake;
use fake::faker::address::en::{BuildingNumber, StreetName};
use fake::faker::job::en::{Field, Position, Title};
use fake::faker::name::en::LastName;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};

use super::calendar::{DAYS, day_weights};
use super::places::{PLACES, Place, URBAN_POPULATION};
use super::profiles::Segment;

/// Days between the first and the last simulated one: what a daily count is multiplied by.
const DAYS_BETWEEN: u32 = 730;

/// Share of customers that meet fraud once.
const ATTACKED: f64 = 99.0 / 101.0;

/// How many digits a card has and how many of 981 customers hold such a card. Eleven digits are twelve that lost a
/// zero.
const CARD_DIGITS: [(usize, u32); 7] = [(11, 7), (12, 72), (13, 72), (14, 89), (15, 160), (16, 490), (19, 91)];

/// Share of coordinates that a careless float parser left with digits they never had.
const NOISY_HOMES: f64 = 0.025;

/// Ages are those of this day.
const AGES_ON: NaiveDate = NaiveDate::from_ymd_opt(2020, 7, 1).expect("a date that exists");

const WOMEN: [&str; 32] = [
    "Amy",
    "Angela",
    "Barbara",
    "Carol",
    "Christine",
    "Deborah",
    "Diane",
    "Elizabeth",
    "Emily",
    "Gina",
    "Grace",
    "Heather",
    "Helen",
    "Jennifer",
    "Jessica",
    "Joan",
    "Judith",
    "Karen",
    "Kelly",
    "Laura",
    "Linda",
    "Lisa",
    "Margaret",
    "Maria",
    "Melissa",
    "Monica",
    "Nicole",
    "Rachel",
    "Rebecca",
    "Sharon",
    "Susan",
    "Theresa",
];
const MEN: [&str; 32] = [
    "Aaron",
    "Adam",
    "Andrew",
    "Brian",
    "Charles",
    "Christopher",
    "Daniel",
    "David",
    "Edward",
    "Eric",
    "Frank",
    "Gary",
    "George",
    "Jacob",
    "James",
    "Jason",
    "Jeffrey",
    "John",
    "Jose",
    "Justin",
    "Kenneth",
    "Kevin",
    "Mark",
    "Matthew",
    "Michael",
    "Nathan",
    "Paul",
    "Robert",
    "Scott",
    "Steven",
    "Thomas",
    "William",
];

/// One card holder.
#[derive(Debug)]
pub(super) struct Customer {
    pub segment: Segment,
    /// The card's number with all its digits.
    pub card: String,
    pub first: &'static str,
    pub last: &'static str,
    pub is_female: bool,
    pub street: String,
    pub place: &'static Place,
    pub latitude: f64,
    pub longitude: f64,
    pub job: String,
    pub born: NaiveDate,
    /// Legitimate purchases of the two years: a multiple of 730.
    pub purchases: u32,
    pub burst: Option<Burst>,
}

/// Frauds on two adjacent days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Burst {
    /// Index of the first of the two days.
    pub day: usize,
    /// Frauds of either day; one may have none.
    pub frauds: [u32; 2],
}

impl Burst {
    /// Frauds on a simulated day. A day with some sees no other purchase of this card.
    pub fn on(&self, day: usize) -> u32 {
        day.checked_sub(self.day).and_then(|index| self.frauds.get(index)).copied().unwrap_or(0)
    }
}

/// Draws `count` customers, no two with one card or one address.
pub(super) fn draw(count: usize, rng: &mut impl Rng) -> Vec<Customer> {
    let segments = Segment::OBSERVED.map(|(_, women, men)| women + men);
    let segments = WeightedIndex::new(segments).expect("the observed counts are not all zero");
    let (urban, rural): (Vec<&Place>, Vec<&Place>) =
        PLACES.iter().partition(|place| place.population >= URBAN_POPULATION);
    let (mut cards, mut streets) = (BTreeSet::new(), BTreeSet::new());
    let mut customer = |_| {
        let (segment, women, men) = Segment::OBSERVED[segments.sample(rng)];
        let is_female = rng.random_ratio(women, women + men);
        let places = if segment.is_urban() { &urban } else { &rural };
        let place = *places.choose(rng).expect("there are urban and rural places");
        let (k_min, k_max) = segment.profile().legit.count;
        Customer {
            segment,
            card: unused(&mut cards, || card_number(rng)),
            first: if is_female { &WOMEN } else { &MEN }.choose(rng).copied().unwrap_or_default(),
            last: LastName().fake_with_rng(rng),
            is_female,
            street: unused(&mut streets, || street(rng)),
            place,
            latitude: with_parser_noise(place.latitude, NOISY_HOMES, rng),
            longitude: with_parser_noise(place.longitude, NOISY_HOMES, rng),
            job: job(rng),
            born: birthday(segment, rng),
            purchases: DAYS_BETWEEN * rng.random_range(k_min..=k_max),
            burst: rng.random_bool(ATTACKED).then(|| burst(segment, rng)),
        }
    };
    (0..count).map(&mut customer).collect()
}

/// A value not drawn before; there are many more than customers.
fn unused(known: &mut BTreeSet<String>, mut draw: impl FnMut() -> String) -> String {
    loop {
        let value = draw();
        if known.insert(value.clone()) {
            return value;
        }
    }
}

/// A number with a valid check digit, of an issuer that gives out such lengths, by the data set's shares of lengths.
fn card_number(rng: &mut impl Rng) -> String {
    let lengths = WeightedIndex::new(CARD_DIGITS.map(|(_, customers)| customers));
    let (digits, _) = CARD_DIGITS[lengths.expect("the observed counts are not all zero").sample(rng)];
    let (digits, prefixes): (usize, &[&str]) = match digits {
        11 => (12, &["0604"]),
        12 => (12, &["5018", "5020", "5038", "5893", "6304", "6759", "6761"]),
        13 => (13, &["4"]),
        14 => (14, &["300", "301", "305", "36", "38"]),
        15 => (15, &["34", "37", "2131", "1800"]),
        16 => (16, &["4", "51", "52", "53", "54", "55", "6011", "65", "3528", "3589"]),
        length => (length, &["4"]),
    };
    let mut card = prefixes.choose(rng).copied().unwrap_or_default().to_owned();
    while card.len() < digits - 1 {
        card.push(char::from(b'0' + rng.random_range(0..10_u8)));
    }
    card.push(char::from(b'0' + check_digit(card.as_bytes())));
    card
}

/// The digit that makes a number pass the Luhn test.
fn check_digit(digits: &[u8]) -> u8 {
    let doubled = |(index, digit): (usize, &u8)| {
        let digit = digit - b'0';
        if index % 2 == 1 { digit } else { digit * 2 % 10 + digit / 5 }
    };
    let sum: u32 = digits.iter().rev().enumerate().map(doubled).map(u32::from).sum();
    u8::try_from((10 - sum % 10) % 10).unwrap_or_default()
}

fn street(rng: &mut impl Rng) -> String {
    let (number, name): (String, String) = (BuildingNumber().fake_with_rng(rng), StreetName().fake_with_rng(rng));
    if rng.random_bool(0.5) {
        return format!("{number} {name}");
    }
    let unit = if rng.random_bool(0.5) { "Apt." } else { "Suite" };
    format!("{number} {name} {unit} {:03}", rng.random_range(0..1_000))
}

/// A title; about a quarter hold a comma, which CSV has to quote.
fn job(rng: &mut impl Rng) -> String {
    if rng.random_bool(0.24) {
        let (position, field): (&str, &str) = (Position().fake_with_rng(rng), Field().fake_with_rng(rng));
        return format!("{position}, {}", field.to_lowercase());
    }
    Title().fake_with_rng(rng)
}

fn birthday(segment: Segment, rng: &mut impl Rng) -> NaiveDate {
    let (youngest, oldest) = segment.ages();
    let age = rng.random_range(youngest..=oldest);
    AGES_ON - Months::new(12 * age) - Days::new(rng.random_range(0..365))
}

/// One burst: its day uniform, its frauds on that day and the next by the weights of the days.
fn burst(segment: Segment, rng: &mut impl Rng) -> Burst {
    let day = rng.random_range(1..=723);
    debug_assert!(day + 1 < DAYS);
    let (min, max) = segment.profile().fraud.count;
    let weights = day_weights(segment);
    let share_of_first = weights[day] / (weights[day] + weights[day + 1]);
    let mut frauds = [0, 0];
    for _ in 0..rng.random_range(min..=max) {
        frauds[usize::from(!rng.random_bool(share_of_first))] += 1;
    }
    Burst { day, frauds }
}

/// The value, or in `share` of all cases its neighbour among floats, printed with all the digits that tell them apart.
pub(super) fn with_parser_noise(value: f64, share: f64, rng: &mut impl Rng) -> f64 {
    match (rng.random_bool(share), rng.random_bool(0.5)) {
        (false, _) => value,
        (true, false) => value.next_up(),
        (true, true) => value.next_down(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn check_digits_of_known_numbers() {
        for number in ["4111111111111111", "378282246310005", "30569309025904", "6011111111111117"] {
            let (digits, check) = number.as_bytes().split_at(number.len() - 1);
            assert_eq!(check_digit(digits) + b'0', check[0], "{number}");
        }
    }

    #[test]
    fn customers_follow_the_observed_shares() {
        let customers = draw(8_000, &mut ChaCha8Rng::seed_from_u64(1));
        let cards: BTreeSet<_> = customers.iter().map(|customer| &customer.card).collect();
        assert_eq!(cards.len(), customers.len());
        let mut lengths: BTreeMap<usize, f64> = BTreeMap::new();
        for customer in &customers {
            let number: i64 = customer.card.parse().unwrap();
            *lengths.entry(number.to_string().len()).or_default() += 1.0 / 8_000.0;
        }
        for (digits, observed) in CARD_DIGITS {
            let expected = f64::from(observed) / 981.0;
            assert!((lengths[&digits] - expected).abs() < 0.018, "{digits} digits: {} of {expected}", lengths[&digits]);
        }
        for (segment, women, men) in Segment::OBSERVED {
            let found = customers.iter().filter(|customer| customer.segment == segment).count();
            let expected = 8_000.0 * f64::from(women + men) / 981.0;
            assert!((found as f64 - expected).abs() < 4.0 * expected.sqrt(), "{segment:?}: {found} of {expected}");
        }
        let women = customers.iter().filter(|customer| customer.is_female).count() as f64 / 8_000.0;
        assert!((women - 495.0 / 981.0).abs() < 0.02, "{women}");
    }

    #[test]
    fn each_customer_fits_its_segment() {
        for customer in draw(1_000, &mut ChaCha8Rng::seed_from_u64(2)) {
            let (segment, profile) = (customer.segment, customer.segment.profile());
            assert_eq!(segment.is_urban(), customer.place.population >= URBAN_POPULATION);
            let age = AGES_ON.years_since(customer.born).unwrap();
            assert!((segment.ages().0..=segment.ages().1).contains(&age), "{segment:?} of {age}");
            let k = customer.purchases / 730;
            assert!(customer.purchases % 730 == 0 && (profile.legit.count.0..=profile.legit.count.1).contains(&k));
            if let Some(burst) = customer.burst {
                let frauds = burst.frauds[0] + burst.frauds[1];
                assert!((profile.fraud.count.0..=profile.fraud.count.1).contains(&frauds));
                assert_eq!((burst.on(burst.day), burst.on(burst.day + 2)), (burst.frauds[0], 0));
                assert_eq!(burst.on(burst.day - 1), 0);
            }
        }
    }
}
