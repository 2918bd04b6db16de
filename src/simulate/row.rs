//! A simulated transaction as the data set writes it: a row of CSV, or a JSON object of the same fields.
//!
//! The one law: every oddity of the data set that a reader must survive is here: numbers that lost leading zeros,
//! amounts without trailing zeros, the prefix before every merchant, two clocks seven years apart.

use std::io::Write;

use chrono::{NaiveDateTime, Timelike};

use super::calendar::{at, labelled, simulated_seconds};
use super::customers::Customer;
use super::profiles::CATEGORIES;
use super::purchase::{Purchase, World};
use crate::clock::{MICROS_PER_SECOND, Micros};

/// The data set's columns; the first, nameless one numbers the rows.
pub(super) const HEADER: &str = concat!(
    ",trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,zip,lat,long,city_pop,job,",
    "dob,trans_num,unix_time,merch_lat,merch_long,is_fraud\r\n"
);

/// What stands before every merchant's name.
const MERCHANT_PREFIX: &str = "fraud_";

/// One transaction and its two clocks.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedRow {
    /// When it happened, as the row's text says: microseconds UTC.
    pub event_time: Micros,
    /// The row's `unix_time`: seconds, seven calendar years earlier.
    pub(super) unix_time: i64,
    pub(super) purchase: Purchase,
}

/// What stands in the card's field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Card<'a> {
    /// The number, as a JSON number: leading zeros lost.
    Number,
    /// A token in its place.
    Token(&'a str),
}

impl SimulatedRow {
    /// A row of simulated time: its text is seven years later.
    pub(super) fn simulated(unix_time: i64, purchase: Purchase) -> Self {
        let event_time = labelled(unix_time).and_utc().timestamp() * MICROS_PER_SECOND;
        Self { event_time, unix_time, purchase }
    }

    /// A row of the given time: its `unix_time` is seven years earlier.
    pub(super) fn live(event_time: Micros, purchase: Purchase) -> Self {
        Self { event_time, unix_time: simulated_seconds(event_time), purchase }
    }

    /// Whether it is fraudulent.
    pub fn is_fraud(&self) -> bool {
        self.purchase.is_fraud
    }

    /// Appends a row of CSV with the line end of the data set.
    pub(super) fn write_csv(&self, world: &World, index: u64, out: &mut Vec<u8>) {
        let (bought, customer) = (&self.purchase, &world.customers[self.purchase.customer]);
        let place = customer.place;
        append(out, format_args!("{index},{},{},", Text(self.event_time), without_zeros(&customer.card)));
        append_quoted(out, MERCHANT_PREFIX, world.merchants.name(bought.category, bought.merchant));
        append(out, format_args!(",{},{},", CATEGORIES[bought.category], Amount(bought.cents)));
        append(out, format_args!("{},{},{},", customer.first, customer.last, gender(customer)));
        append_quoted(out, "", &customer.street);
        append(out, format_args!(",{},{},{},", place.city, place.state, without_zeros(place.zip)));
        append(out, format_args!("{:?},{:?},{},", customer.latitude, customer.longitude, place.population));
        append_quoted(out, "", &customer.job);
        append(out, format_args!(",{},{:032x},{},", customer.born, bought.id, self.unix_time));
        let is_fraud = u8::from(bought.is_fraud);
        append(out, format_args!("{:?},{:?},{is_fraud}\r\n", bought.latitude, bought.longitude));
    }

    /// Appends a JSON object, without a line end.
    pub(super) fn write_json(&self, world: &World, card: Card<'_>, out: &mut Vec<u8>) {
        let (bought, customer) = (&self.purchase, &world.customers[self.purchase.customer]);
        let place = customer.place;
        append(out, format_args!("{{\"trans_date_trans_time\":\"{}\",\"cc_num\":", Text(self.event_time)));
        match card {
            Card::Number => append(out, format_args!("{}", without_zeros(&customer.card))),
            Card::Token(token) => append(out, format_args!("\"{token}\"")),
        }
        let merchant = world.merchants.name(bought.category, bought.merchant);
        append(out, format_args!(",\"merchant\":\"{MERCHANT_PREFIX}{merchant}\""));
        let (category, amount) = (CATEGORIES[bought.category], Amount(bought.cents));
        append(out, format_args!(",\"category\":\"{category}\",\"amt\":{amount}"));
        let Customer { first, last, street, job, born, latitude, longitude, .. } = customer;
        append(out, format_args!(",\"first\":\"{first}\",\"last\":\"{last}\",\"gender\":\"{}\"", gender(customer)));
        append(out, format_args!(",\"street\":\"{street}\",\"city\":\"{}\"", place.city));
        append(out, format_args!(",\"state\":\"{}\",\"zip\":{}", place.state, without_zeros(place.zip)));
        append(out, format_args!(",\"lat\":{latitude:?},\"long\":{longitude:?},\"city_pop\":{}", place.population));
        append(out, format_args!(",\"job\":\"{job}\",\"dob\":\"{born}\",\"trans_num\":\"{:032x}\"", bought.id));
        append(out, format_args!(",\"unix_time\":{},\"merch_lat\":{:?}", self.unix_time, bought.latitude));
        let is_fraud = u8::from(bought.is_fraud);
        append(out, format_args!(",\"merch_long\":{:?},\"is_fraud\":{is_fraud}}}", bought.longitude));
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory does not fail");
}

/// A CSV field, in quotes only if it must be. No name here holds a quote.
fn append_quoted(out: &mut Vec<u8>, prefix: &str, text: &str) {
    let quote = if text.contains(',') { "\"" } else { "" };
    append(out, format_args!("{quote}{prefix}{text}{quote}"));
}

fn gender(customer: &Customer) -> char {
    if customer.is_female { 'F' } else { 'M' }
}

fn without_zeros(digits: &str) -> &str {
    digits.trim_start_matches('0')
}

/// Cents as pandas prints a float: `45.0`, `4.9`, `107.23`.
struct Amount(i64);

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, cents) = (self.0 / 100, self.0 % 100);
        if cents % 10 == 0 { write!(f, "{whole}.{}", cents / 10) } else { write!(f, "{whole}.{cents:02}") }
    }
}

/// A time as the data set writes it; a fraction of a second, which only live rows have, with six digits.
struct Text(Micros);

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time: NaiveDateTime = at(self.0.div_euclid(MICROS_PER_SECOND));
        let fraction = self.0.rem_euclid(MICROS_PER_SECOND);
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        write!(f, "{} {hour:02}:{minute:02}:{second:02}", time.date())?;
        if fraction == 0 { Ok(()) } else { write!(f, ".{fraction:06}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_lose_trailing_zeros() {
        let shown = [4_500, 490, 10_723, 100, 101, 1_010].map(|cents| Amount(cents).to_string());
        assert_eq!(shown, ["45.0", "4.9", "107.23", "1.0", "1.01", "10.1"]);
    }

    #[test]
    fn times_show_a_fraction_only_if_there_is_one() {
        let seconds = 1_546_300_818;
        assert_eq!(Text(seconds * MICROS_PER_SECOND).to_string(), "2019-01-01 00:00:18");
        assert_eq!(Text(seconds * MICROS_PER_SECOND + 42).to_string(), "2019-01-01 00:00:18.000042");
    }
}
