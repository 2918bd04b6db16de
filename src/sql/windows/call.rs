//! A window function as written: `HOP(table, time, slide, size[, offset | 'Time/Zone'])` and its like.
//!
//! The one law: whatever is no window is refused here, at its argument, with what to write instead. Whether table, time
//! and keys exist is looked up by whoever knows the tables.

use chrono_tz::{TZ_VARIANTS, Tz};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, Spanned, TableAlias, TableFactor, Value,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::clock::Micros;
use crate::sql::grid::{Grid, MICROS_PER_DAY, Place};
use crate::sql::interval::{duration, interval_literal, show_duration};
use crate::sql::place::{Refusal, nearest};
use crate::sql::spec::{CELLS_MAX, WindowSpec};

/// The window functions of the language.
const FUNCTIONS: [&str; 4] = ["tumble", "hop", "cumulate", "session"];

/// A window function as written.
#[derive(Clone, Debug)]
pub(in crate::sql) struct WindowCall {
    pub(in crate::sql) spec: WindowSpec,
    pub(in crate::sql) table: ObjectName,
    pub(in crate::sql) time: Expr,
    /// The columns whose rows share a session; empty where all rows do, and for the other windows.
    pub(in crate::sql) keys: Vec<Ident>,
    pub(in crate::sql) alias: Option<TableAlias>,
    /// Columns of the table that the window's own take the place of: a view over windows has some of that name.
    pub(in crate::sql) hidden: Vec<&'static str>,
}

/// The window call a table expression is; `None` when it is no window function.
pub(in crate::sql) fn window_call(factor: &TableFactor) -> Result<Option<WindowCall>, Refusal> {
    let TableFactor::Table { name, alias, args: Some(args), sample, version, .. } = factor else { return Ok(None) };
    let function = name.to_string().to_lowercase();
    if !FUNCTIONS.contains(&function.as_str()) {
        let near = match function.as_str() {
            // What other engines call it.
            "hopping" | "slide" | "sliding" => Some("hop"),
            other => nearest(other, FUNCTIONS),
        };
        return match near {
            Some(near) => {
                let help = format!("did you mean `{}`?", near.to_uppercase());
                Err(Refusal::new(name.span(), format!("no table function `{name}`")).help(help))
            }
            None => Ok(None),
        };
    }
    let shown = function.to_uppercase();
    if sample.is_some() || version.is_some() {
        return Err(Refusal::new(name.span(), format!("`{name}` takes neither TABLESAMPLE nor a version")));
    }
    let mut arguments = Vec::with_capacity(args.args.len());
    for arg in &args.args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => arguments.push(expr),
            other => return Err(Refusal::new(name.span(), format!("`{shown}` takes no argument like `{other}`"))),
        }
    }
    let [table, time, lengths @ ..] = arguments.as_slice() else { return Err(usage(&shown, name.span())) };
    let (spec, keys) = match (function.as_str(), lengths) {
        ("tumble", [size]) => (tumble(size, None)?, Vec::new()),
        ("tumble", [size, place]) => (tumble(size, Some(place))?, Vec::new()),
        ("session", [gap, keys @ ..]) => (session(gap)?, keys.iter().map(|key| column(key)).collect::<Result<_, _>>()?),
        ("hop" | "cumulate", [part, size]) => (combined(&function, part, size, None)?, Vec::new()),
        ("hop" | "cumulate", [part, size, place]) => (combined(&function, part, size, Some(place))?, Vec::new()),
        _ => return Err(usage(&shown, name.span())),
    };
    let table = table_name(table, &shown)?;
    Ok(Some(WindowCall { spec, table, time: (*time).clone(), keys, alias: alias.clone(), hidden: Vec::new() }))
}

fn usage(function: &str, at: Span) -> Refusal {
    let help = match function {
        "TUMBLE" => {
            "write `TUMBLE(table, time, INTERVAL '1 minute')`: the size; a fourth argument is an offset or a time zone"
        }
        "HOP" => "write `HOP(table, time, INTERVAL '10 seconds', INTERVAL '1 minute')`: the slide, then the size",
        "CUMULATE" => "write `CUMULATE(table, time, INTERVAL '1 hour', INTERVAL '1 day')`: the step, then the size",
        _ => "write `SESSION(table, time, INTERVAL '30 minutes', key)`: the gap, then the columns that sessions are of",
    };
    Refusal::new(at, format!("`{function}` takes other arguments")).help(help)
}

fn tumble(size: &Expr, place: Option<&&Expr>) -> Result<WindowSpec, Refusal> {
    let length = positive(size, "the window's size")?;
    Ok(WindowSpec::tumbling(grid(length, size, place, "the window's size")?))
}

fn combined(function: &str, part: &Expr, size: &Expr, place: Option<&&Expr>) -> Result<WindowSpec, Refusal> {
    let (what, word) = if function == "hop" { ("the window's slide", "slide") } else { ("the window's step", "step") };
    let length = positive(part, what)?;
    let whole = positive(size, "the window's size")?;
    let grid = grid(length, part, place, what)?;
    if whole % length != 0 {
        let below = whole - whole % length;
        let near = [below, below.saturating_add(length)].map(|size| format!("`INTERVAL '{}'`", show_duration(size)));
        let near = if below > 0 { near.join(" or ") } else { near[1].clone() };
        let message = format!(
            "the window's size `{}` is not a multiple of its {word} `{}`",
            show_duration(whole),
            show_duration(length)
        );
        return Err(Refusal::new(size.span(), message).help(format!("write {near}")));
    }
    let spec = if function == "hop" { WindowSpec::hopping(grid, whole) } else { WindowSpec::cumulating(grid, whole) };
    spec.ok_or_else(|| {
        let message =
            format!("the window's size is {} times its {word}, which is more than {CELLS_MAX} pieces", whole / length);
        Refusal::new(size.span(), message).help(format!("choose a longer {word}"))
    })
}

fn session(gap: &Expr) -> Result<WindowSpec, Refusal> {
    let what = "the session's gap";
    WindowSpec::session(interval_literal(gap, what)?)
        .ok_or_else(|| Refusal::new(gap.span(), format!("{what} must be positive")))
}

fn positive(length: &Expr, what: &str) -> Result<Micros, Refusal> {
    match interval_literal(length, what)? {
        micros if micros > 0 => Ok(micros),
        _ => Err(Refusal::new(length.span(), format!("{what} must be positive"))),
    }
}

/// The grid of cells of this length at an offset or in a time zone.
fn grid(length: Micros, at: &Expr, place: Option<&&Expr>, what: &str) -> Result<Grid, Refusal> {
    let place = match place {
        None => Place::Offset(0),
        Some(place) => match zone_literal(place)? {
            Some(zone) => Place::Zone(zone),
            None => Place::Offset(interval_literal(place, "the windows' offset")?),
        },
    };
    Grid::at_place(length, place).ok_or_else(|| {
        let days = show_duration(MICROS_PER_DAY * (length / MICROS_PER_DAY + 1));
        let message = format!("{what} must be whole days in a time zone, not `{}`", show_duration(length));
        Refusal::new(at.span(), message)
            .help(format!("write it in days like `INTERVAL '{days}'`, or leave the time zone out"))
    })
}

/// The time zone a literal text names; `None` for what is no text.
fn zone_literal(place: &Expr) -> Result<Option<Tz>, Refusal> {
    let Expr::Value(literal) = place else { return Ok(None) };
    let Value::SingleQuotedString(name) = &literal.value else { return Ok(None) };
    if let Ok(zone) = name.parse::<Tz>() {
        return Ok(Some(zone));
    }
    let offset = "the windows' offset";
    if duration(name, offset, literal.span).is_ok() {
        let refusal = Refusal::new(literal.span, format!("{offset} is an interval, not `'{name}'`"));
        return Err(refusal.help(format!("write `INTERVAL '{name}'`")));
    }
    let known = || TZ_VARIANTS.iter().map(|zone| zone.name());
    let refusal = Refusal::new(literal.span, format!("no time zone `{name}`")).near(name, known());
    Err(match refusal.meant() {
        Some(_) => refusal,
        None => refusal.help("write one like `Europe/Berlin`"),
    })
}

/// The column a session's key is.
fn column(key: &Expr) -> Result<Ident, Refusal> {
    match key {
        Expr::Identifier(name) => Ok(name.clone()),
        Expr::Interval(_) | Expr::Value(_) => {
            let refusal = Refusal::new(key.span(), format!("a session has no offset and no time zone like `{key}`"));
            Err(refusal.help("after the gap come the columns that sessions are of"))
        }
        _ => Err(Refusal::new(key.span(), format!("a session's key is a column, not `{key}`"))),
    }
}

fn table_name(argument: &Expr, function: &str) -> Result<ObjectName, Refusal> {
    match argument {
        Expr::Identifier(name) => Ok(ObjectName::from(vec![name.clone()])),
        Expr::CompoundIdentifier(parts) => Ok(ObjectName::from(parts.clone())),
        other => {
            Err(Refusal::new(other.span(), format!("the first argument of `{function}` is a table, not `{other}`")))
        }
    }
}
