//! The grammar of random queries.
//!
//! What both engines write alike is text; what they write differently has a text for each. To let a new window take part,
//! give it an arm in [`Window`] and its translation in `sql.rs`, and add its kind to [`KINDS`].

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

/// The kinds of windows that take part.
pub const KINDS: &[Kind] = &[Kind::Tumble, Kind::Hop, Kind::Cumulate, Kind::Zone, Kind::Session];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tumble,
    Hop,
    Cumulate,
    /// Days of a time zone.
    Zone,
    Session,
}

/// Zones whose midnights all exist and none of which comes twice: engines differ there.
pub const ZONES: &[&str] = &["America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"];

/// A window call; seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Window {
    Tumble {
        size: i64,
        offset: i64,
    },
    Hop {
        slide: i64,
        size: i64,
    },
    Cumulate {
        step: i64,
        size: i64,
    },
    /// `cells` of so many days each: a hop, or growing ones. One cell is a tumbling window.
    Zone {
        zone: &'static str,
        days: i64,
        cells: i64,
        grows: bool,
    },
    Session {
        gap: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    Inner,
    Left,
    /// Of windows, whose rows are then listed and not grouped.
    Full,
}

/// What a query reads.
#[derive(Clone, Debug)]
pub enum Reads {
    /// Windows over the stream.
    Stream,
    /// These, joined with a static file.
    File { join: Join },
    /// These, joined with what each key has had in a table that a view fills with the rows it keeps.
    Table { join: Join, kept: String },
    /// Windows over the rows another view closes, by the start or the end of its windows.
    View { parent: Box<Query>, by_end: bool },
    /// Windows over the stream, joined with themselves; further conditions.
    Itself { join: Join, on: &'static str },
    /// Windows over two views, joined; by the views' names where the windows are theirs.
    Views { one: Box<Query>, other: Box<Query>, join: Join, named: bool },
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
    pub reads: Reads,
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

/// Of joined windows: both sides have the columns of the stream.
const SIDE_KEYS: &[&str] = &["a.k", "a.g", "a.flag", "a.n % 3"];
const SIDE_FILTERS: &[&str] =
    &["a.flag", "a.amount >= 100.00", "a.n > 0 OR a.note IS NULL", "b.id IS NULL OR a.n <> b.n"];
const SIDE_CONDITIONS: &[&str] =
    &["", " AND a.id < b.id", " AND a.n > b.n", " AND b.flag", " AND a.g = b.g AND NOT a.flag"];

/// Of joined windows whose rows are listed: what tells one row of a window from another, and what else is shown of it.
const PAIR_KEYS: &[&str] = &["a.id", "b.id"];
const PAIR_TERMS: &[(&str, Holds)] = &[
    ("a.n", Holds::Plain),
    ("b.note", Holds::Plain),
    ("a.amount - b.amount", Holds::Decimal),
    ("coalesce(a.k, b.k)", Holds::Plain),
    ("CASE WHEN a.id IS NULL THEN b.n ELSE a.n END", Holds::Plain),
];
const PAIR_FILTERS: &[&str] =
    &["a.id IS NULL OR b.id IS NULL", "coalesce(a.amount, b.amount) > 100.00", "b.flag IS NOT TRUE"];
const VIEW_PAIR_KEYS: &[&str] = &["coalesce(a.k0, b.k0)"];
const VIEW_PAIR_TERMS: &[(&str, Holds)] = &[
    ("a.a0", Holds::Plain),
    ("b.a0", Holds::Plain),
    ("coalesce(a.a1, 0) - coalesce(b.a1, 0)", Holds::Decimal),
    ("coalesce(a.a2, b.a2)", Holds::Plain),
    ("a.a0 + b.a0", Holds::Plain),
];
const VIEW_PAIR_FILTERS: &[&str] =
    &["a.a0 IS NULL OR b.a0 IS NULL", "coalesce(a.a1, b.a1) > 100.00", "a.a0 > 1 OR b.a0 > 1"];

fn pick(random: &mut ChaCha8Rng, from: &[&'static str]) -> &'static str {
    from.choose(random).copied().unwrap_or("n")
}

impl Query {
    pub fn random(random: &mut ChaCha8Rng, name: String) -> Self {
        match random.random_range(0..20) {
            0 | 1 => Self::over_view(random, name),
            2 | 3 => Self::with_itself(random, name),
            4 | 5 => Self::of_views(random, name),
            6 | 7 => {
                let mut query = Self::over_stream(random, name, &KINDS[..4]);
                query.reads = Reads::Table { join: Join::lookup(random), kept: condition(random) };
                query.keys.extend(random.random_bool(0.5).then_some("seen > 3"));
                let texts = [
                    ("sum(seen)", Holds::Plain),
                    ("max(spent)", Holds::Decimal),
                    ("count(kk)", Holds::Plain),
                    ("sum(amount) FILTER (WHERE seen > 1)", Holds::Decimal),
                ];
                query.aggregates.extend(some(random, &texts));
                query
            }
            8 | 9 => {
                let mut query = Self::over_stream(random, name, &KINDS[..4]);
                query.reads = Reads::File { join: Join::lookup(random) };
                if random.random_bool(0.6) {
                    query.keys.push("label");
                }
                let (sum, count) = ("sum(w)".to_owned(), "count(label)".to_owned());
                query.aggregates.extend([alike(sum, Holds::Plain), alike(count, Holds::Plain)]);
                query
            }
            _ => Self::over_stream(random, name, KINDS),
        }
    }

    fn over_stream(random: &mut ChaCha8Rng, name: String, kinds: &[Kind]) -> Self {
        let window = Window::random(random, kinds);
        let is_session = matches!(window, Window::Session { .. });
        let from = if is_session { SESSION_KEYS } else { KEYS };
        let mut keys: Vec<&str> = (0..random.random_range(0..=3)).map(|_| pick(random, from)).collect();
        keys.sort_unstable();
        keys.dedup();
        let aggregates = (0..random.random_range(1..=5)).map(|_| aggregate(random)).collect();
        // A session is made of all rows of its key, whatever WHERE keeps of them: engines differ there.
        let filter = (!is_session && random.random_bool(0.4)).then(|| condition(random));
        let having = random.random_bool(0.3).then(|| pick(random, HAVINGS).to_owned());
        let lateness_s = lateness(random);
        Self { name, reads: Reads::Stream, window, keys, aggregates, filter, having, lateness_s }
    }

    /// A view that others read: `k0` is a key, `a0` a count, `a1` money, `a2` a whole number or NULL.
    fn parent(random: &mut ChaCha8Rng, name: String, window: Window) -> Self {
        let keys = vec![pick(random, &["k", "k", "upper(k)"])];
        let texts = [("count(*)", Holds::Plain), ("sum(amount)", Holds::Decimal), ("max(n)", Holds::Plain)];
        let aggregates = texts.into_iter().map(|(text, holds)| alike(text.to_owned(), holds)).collect();
        let filter = random.random_bool(0.4).then(|| condition(random));
        let lateness_s = lateness(random);
        Self { name, reads: Reads::Stream, window, keys, aggregates, filter, having: None, lateness_s }
    }

    fn over_view(random: &mut ChaCha8Rng, name: String) -> Self {
        let above = Window::random(random, &KINDS[..4]);
        let parent = Box::new(Self::parent(random, format!("{name}p"), above));
        let texts = [
            ("count(*)", Holds::Plain),
            ("sum(a0)", Holds::Plain),
            ("sum(a1)", Holds::Decimal),
            ("max(a1)", Holds::Decimal),
            ("min(a2)", Holds::Plain),
            ("count(DISTINCT a0)", Holds::Plain),
            ("max(k0) FILTER (WHERE a0 > 1)", Holds::Plain),
        ];
        let keys = if random.random_bool(0.5) { vec!["k0"] } else { Vec::new() };
        let having = random.random_bool(0.2).then(|| "sum(a0) > 2".to_owned());
        let (window, aggregates) = (Window::random(random, KINDS), some(random, &texts));
        // A session is made of all rows of its key.
        let is_session = matches!(window, Window::Session { .. });
        let filter = (!is_session && random.random_bool(0.2)).then(|| "a1 > 100.00".to_owned());
        let reads = Reads::View { parent, by_end: random.random_bool(0.4) };
        Self { name, reads, window, keys, aggregates, filter, having, lateness_s: lateness(random) }
    }

    fn with_itself(random: &mut ChaCha8Rng, name: String) -> Self {
        let texts = [
            ("count(*)", Holds::Plain),
            ("count(b.id)", Holds::Plain),
            ("count(DISTINCT b.id)", Holds::Plain),
            ("sum(b.amount)", Holds::Decimal),
            ("sum(a.n + b.n)", Holds::Plain),
            ("max(a.n)", Holds::Plain),
            ("min(b.note)", Holds::Plain),
            ("bool_or(b.flag)", Holds::Plain),
        ];
        let mut keys: Vec<&str> = (0..random.random_range(0..=2)).map(|_| pick(random, SIDE_KEYS)).collect();
        keys.sort_unstable();
        keys.dedup();
        let reads = Reads::Itself { join: Join::of_windows(random), on: pick(random, SIDE_CONDITIONS) };
        if matches!(reads, Reads::Itself { join: Join::Full, .. }) {
            let window = Window::random(random, &KINDS[..4]);
            return Self::listed(random, name, window, reads, (PAIR_KEYS, PAIR_TERMS, PAIR_FILTERS));
        }
        let filter = random.random_bool(0.4).then(|| pick(random, SIDE_FILTERS).to_owned());
        let having = random.random_bool(0.2).then(|| "count(*) > 1".to_owned());
        let (window, aggregates) = (Window::random(random, &KINDS[..4]), some(random, &texts));
        Self { name, reads, window, keys, aggregates, filter, having, lateness_s: lateness(random) }
    }

    fn of_views(random: &mut ChaCha8Rng, name: String) -> Self {
        let join = Join::of_windows(random);
        // Windows of one row a key, or there would be nothing to tell the rows apart by.
        let named = join == Join::Full || random.random_bool(0.5);
        let above = Window::random(random, if named { &KINDS[..1] } else { &KINDS[..4] });
        let window = if named { above } else { Window::random(random, &KINDS[..4]) };
        let one = Box::new(Self::parent(random, format!("{name}p"), above));
        let other = Box::new(Self::parent(random, format!("{name}r"), above));
        let reads = Reads::Views { one, other, join, named };
        if join == Join::Full {
            return Self::listed(random, name, window, reads, (VIEW_PAIR_KEYS, VIEW_PAIR_TERMS, VIEW_PAIR_FILTERS));
        }
        let texts = [
            ("count(*)", Holds::Plain),
            ("sum(a.a0)", Holds::Plain),
            ("sum(b.a0)", Holds::Plain),
            ("max(b.a1)", Holds::Decimal),
            ("min(b.a2)", Holds::Plain),
        ];
        let keys = if random.random_bool(0.6) { vec!["a.k0"] } else { Vec::new() };
        let filter = random.random_bool(0.3).then(|| "a.a0 > 1".to_owned());
        let aggregates = some(random, &texts);
        Self { name, reads, window, keys, aggregates, filter, having: None, lateness_s: lateness(random) }
    }
}

impl Query {
    /// The rows of a FULL JOIN of windows, as they are: keys, terms and conditions to choose from.
    fn listed(
        random: &mut ChaCha8Rng,
        name: String,
        window: Window,
        reads: Reads,
        (keys, terms, filters): (&[&'static str], &[(&str, Holds)], &[&'static str]),
    ) -> Self {
        let filter = random.random_bool(0.3).then(|| pick(random, filters).to_owned());
        let (keys, aggregates) = (keys.to_vec(), some(random, terms));
        Self { name, reads, window, keys, aggregates, filter, having: None, lateness_s: lateness(random) }
    }

    /// Whether the rows of a join are the answer, and not groups of them.
    pub fn is_listed(&self) -> bool {
        matches!(self.reads, Reads::Itself { join: Join::Full, .. } | Reads::Views { join: Join::Full, .. })
    }

    /// How late a row of the stream may come and still count, for the query and all it reads.
    pub fn patience_s(&self) -> i64 {
        match &self.reads {
            Reads::View { parent, .. } => parent.patience_s(),
            Reads::Views { one, other, .. } => one.patience_s().min(other.patience_s()),
            Reads::Stream | Reads::File { .. } | Reads::Table { .. } | Reads::Itself { .. } => self.lateness_s,
        }
    }
}

impl Join {
    fn lookup(random: &mut ChaCha8Rng) -> Self {
        if random.random_bool(0.5) { Self::Left } else { Self::Inner }
    }

    fn of_windows(random: &mut ChaCha8Rng) -> Self {
        [Self::Inner, Self::Left, Self::Full][random.random_range(0..3)]
    }
}

fn lateness(random: &mut ChaCha8Rng) -> i64 {
    LATENESS_S.choose(random).copied().unwrap_or(0)
}

/// Some terms that both engines write alike.
fn some(random: &mut ChaCha8Rng, from: &[(&str, Holds)]) -> Vec<Term> {
    let one = |random: &mut ChaCha8Rng| from[random.random_range(0..from.len())];
    let picked = (0..random.random_range(1..=4)).map(|_| one(random));
    picked.map(|(text, holds)| alike(text.to_owned(), holds)).collect()
}

impl Window {
    fn random(random: &mut ChaCha8Rng, kinds: &[Kind]) -> Self {
        let kind = kinds.choose(random).copied().unwrap_or(Kind::Tumble);
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
            Kind::Zone => {
                let (days, cells) = (random.random_range(1..=3), [1, 1, 2, 3][random.random_range(0..4)]);
                Self::Zone { zone: pick(random, ZONES), days, cells, grows: random.random_bool(0.5) }
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
