//! The grammar of random queries.
//!
//! What both engines write alike is text; what they write differently has a text for each. To let a new window take part,
//! give it an arm in [`Window`] and its translation in `sql.rs`, and add its kind to [`KINDS`].

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// The kinds of windows that take part.
pub const KINDS: &[Kind] = &[Kind::Tumble, Kind::Hop, Kind::Cumulate, Kind::Session];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

/// A window call; seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Window {
    Tumble { size: i64, offset: i64 },
    Hop { slide: i64, size: i64 },
    Cumulate { step: i64, size: i64 },
    Session { gap: i64 },
}

/// What a column of the answer holds, which says how it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Equal as text.
    Plain,
    /// Equal as numbers, whatever their trailing zeros.
    Decimal,
    /// A decimal with six digits here, a whole number of millionths in DuckDB.
    Millionths,
    /// Within 1e-9.
    Float,
}

/// One column of the answer: its text in each engine.
#[derive(Clone, Debug)]
pub struct Term {
    pub ours: String,
    pub duck: String,
    pub holds: Holds,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub name: String,
    pub window: Window,
    pub keys: Vec<&'static str>,
    pub aggregates: Vec<Term>,
    pub filter: Option<String>,
    pub having: Option<String>,
    pub lateness_s: i64,
}

const KEYS: &[&str] = &[
    "k",
    "k",
    "g",
    "flag",
    "note",
    "upper(k)",
    "coalesce(g, -9)",
    "n % 3",
    "CASE WHEN amount > 5000.00 THEN 'large' ELSE 'small' END",
    "note IS NULL",
];
/// What SESSION may be keyed by: columns.
const SESSION_KEYS: &[&str] = &["k", "g", "note"];
const CONDITIONS: &[&str] = &[
    "n > 0",
    "flag",
    "NOT flag",
    "amount >= 100.00",
    "note IS NOT NULL",
    "k <> 'alpha'",
    "k LIKE '%a'",
    "n BETWEEN -10 AND 25",
    "g IN (0, 1)",
    "price < 500 OR price IS NULL",
    "coalesce(n, 0) % 2 = 0",
    "length(note) = 3",
];
const WHOLE: &[&str] =
    &["n", "n", "g", "n + g", "n * 2 - 1", "coalesce(n, 0)", "CASE WHEN flag THEN n ELSE 0 END", "abs(n)", "n % 7"];
const MONEY: &[&str] = &["amount", "amount", "-amount", "CASE WHEN flag THEN amount ELSE 0.00 END", "amount + 1.50"];
const TEXTS: &[&str] = &["note", "k", "upper(note)", "coalesce(note, k)"];
const ANY: &[&str] = &["n", "k", "note", "g", "flag", "amount", "price"];
const SIZES_S: &[i64] = &[1, 7, 30, 60, 60, 90, 600, 600, 3_600, 86_400, 604_800];
const LATENESS_S: &[i64] = &[0, 0, 5, 30, 120];
const HAVINGS: &[&str] = &[
    "count(*) > 1",
    "sum(amount) > 1000.00",
    "max(n) IS NOT NULL",
    "min(price) < 500",
    "count(DISTINCT note) >= 2 OR count(*) = 1",
    "bool_or(flag)",
    "sum(n) FILTER (WHERE flag) > 0",
];

fn pick(random: &mut ChaCha8Rng, from: &[&'static str]) -> &'static str {
    from.choose(random).copied().unwrap_or("n")
}

impl Query {
    pub fn random(random: &mut ChaCha8Rng, name: String) -> Self {
        let window = Window::random(random);
        let is_session = matches!(window, Window::Session { .. });
        let from = if is_session { SESSION_KEYS } else { KEYS };
        let mut keys: Vec<&str> = (0..random.random_range(0..=3)).map(|_| pick(random, from)).collect();
        keys.sort_unstable();
        keys.dedup();
        let aggregates = (0..random.random_range(1..=5)).map(|_| aggregate(random)).collect();
        // A session is made of all rows of its key, whatever WHERE keeps of them: engines differ there.
        let filter = (!is_session && random.random_bool(0.4)).then(|| condition(random));
        let having = random.random_bool(0.3).then(|| pick(random, HAVINGS).to_owned());
        let lateness_s = LATENESS_S.choose(random).copied().unwrap_or(0);
        Self { name, window, keys, aggregates, filter, having, lateness_s }
    }
}

impl Window {
    fn random(random: &mut ChaCha8Rng) -> Self {
        let kind = KINDS.choose(random).copied().unwrap_or(Kind::Tumble);
        Self::of(kind, random)
    }

    /// A random window of this kind.
    pub fn of(kind: Kind, random: &mut ChaCha8Rng) -> Self {
        let size = SIZES_S.choose(random).copied().unwrap_or(60);
        match kind {
            Kind::Tumble => {
                let offset = if random.random_bool(0.3) { random.random_range(0..2 * size) } else { 0 };
                Self::Tumble { size, offset }
            }
            Kind::Hop => {
                // As in Flink, a window is whole slides.
                let slide = (size / random.random_range(1..=6)).max(1);
                Self::Hop { slide, size: slide * random.random_range(1..=6) }
            }
            Kind::Cumulate => {
                let steps = random.random_range(1..=6);
                Self::Cumulate { step: size, size: size * steps }
            }
            Kind::Session => Self::Session { gap: size.min(600) },
        }
    }
}

fn condition(random: &mut ChaCha8Rng) -> String {
    let first = pick(random, CONDITIONS);
    match random.random_range(0..4) {
        0 => format!("({first}) AND ({})", pick(random, CONDITIONS)),
        1 => format!("({first}) OR NOT ({})", pick(random, CONDITIONS)),
        _ => format!("({first})"),
    }
}

/// A term that both engines write alike.
fn alike(text: String, holds: Holds) -> Term {
    Term { duck: text.clone(), ours: text, holds }
}

fn aggregate(random: &mut ChaCha8Rng) -> Term {
    let filter = match random.random_bool(0.25) {
        true => format!(" FILTER (WHERE {})", condition(random)),
        false => String::new(),
    };
    let distinct = if random.random_bool(0.15) { "DISTINCT " } else { "" };
    let whole = pick(random, WHOLE);
    let money = pick(random, MONEY);
    match random.random_range(0..17) {
        0 => alike(format!("count(*){filter}"), Holds::Plain),
        1 => alike(format!("count({distinct}{}){filter}", pick(random, ANY)), Holds::Plain),
        2 => alike(format!("count(DISTINCT {}){filter}", pick(random, ANY)), Holds::Plain),
        3 => alike(format!("sum({distinct}{whole}){filter}"), Holds::Plain),
        4 => alike(format!("sum({distinct}{money}){filter}"), Holds::Decimal),
        5 => alike(format!("sum({distinct}price){filter}"), Holds::Float),
        6 => average(&filter),
        7 => alike(format!("avg({distinct}{}){filter}", ["price", whole][random.random_range(0..2)]), Holds::Float),
        8 => {
            let (function, of) = (pick(random, &["min", "max"]), pick(random, &["n", "g", "note", "k"]));
            alike(format!("{function}({of}){filter}"), Holds::Plain)
        }
        9 => alike(format!("{}({money}){filter}", pick(random, &["min", "max"])), Holds::Decimal),
        10 => {
            let function = pick(random, &["stddev", "stddev_pop", "var_pop", "var_samp"]);
            alike(format!("{function}({}){filter}", pick(random, &["price", "n"])), Holds::Float)
        }
        11 => alike(format!("{}(flag){filter}", pick(random, &["bool_and", "bool_or"])), Holds::Plain),
        12 => alike(format!("{}(n){filter}", pick(random, &["bit_and", "bit_or", "bit_xor"])), Holds::Plain),
        13 => {
            let (of, last) = (pick(random, &["n", "note", "k", "g"]), random.random_bool(0.5));
            let function = if last { "last" } else { "first" };
            Term {
                ours: format!("{function}_value({of} ORDER BY at, id){filter}"),
                duck: format!("{function}({of} ORDER BY at_us, id){filter}"),
                holds: Holds::Plain,
            }
        }
        14 => {
            let of = pick(random, TEXTS);
            Term {
                ours: format!("string_agg({of}, '|' ORDER BY at, id){filter}"),
                duck: format!("string_agg({of}, '|' ORDER BY at_us, id){filter}"),
                holds: Holds::Plain,
            }
        }
        15 => alike(format!("median(price){filter}"), Holds::Float),
        _ => above(random, whole, money, &filter),
    }
}

/// DataFusion's decimal average has four more digits than its argument, the rest cut off.
fn average(filter: &str) -> Term {
    let sum = format!("CAST(sum(CAST(amount * 100 AS BIGINT)){filter} AS HUGEINT)");
    Term {
        ours: format!("avg(amount){filter}"),
        duck: format!("{sum} * 10000 // nullif(count(amount){filter}, 0)"),
        holds: Holds::Millionths,
    }
}

/// An expression over aggregates.
fn above(random: &mut ChaCha8Rng, whole: &str, money: &str, filter: &str) -> Term {
    match random.random_range(0..5) {
        0 => alike(format!("sum({whole}) + count(*){filter}"), Holds::Plain),
        1 => alike(format!("coalesce(sum({money}){filter}, 0)"), Holds::Decimal),
        2 => alike(format!("CASE WHEN count(*){filter} > 3 THEN 'many' ELSE 'few' END"), Holds::Plain),
        3 => alike(format!("max({whole}) - min({whole})"), Holds::Plain),
        _ => alike(format!("sum(amount){filter} > 100.00 AND count(DISTINCT k) < 3"), Holds::Plain),
    }
}
