//! `lakeward explain`: how a standing query streams, drawn from its source down to its table.
//!
//! The one law: the drawing is lines of a label and what is true of it, so that it reads the same in a terminal, a log
//! and a review. The lake is only counted in, and only if there is one.

use std::process::ExitCode;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use bytesize::ByteSize;

use super::ExplainArgs;
use super::output::{answer, thousands};
use crate::batch::LakeView;
use crate::clock::Micros;
use crate::config::{Config, micros};
use crate::error::{Error, Refusals, Result};
use crate::plans::plan_file;
use crate::sql::{
    BUFFERED_ROWS_MAX, Driver, Lookup, Params, QueryFile, StandingQuery, StreamingPlan, WindowPlan, WindowShape,
    read_queries,
};

/// Width of the labels.
const LABEL: usize = 9;

/// Width of what stands behind them; longer lists go on below.
const WIDTH: usize = 90;

/// A space at which no line is cut.
const UNBROKEN: &str = "\u{a0}";

/// Groups in the fullest window of the newest day, as far as the table shows them.
#[derive(Clone, Copy, Debug)]
struct Counted {
    groups: i64,
    windows: i64,
}

/// Prints the plan of one file.
pub(super) async fn explain(config: &Config, args: &ExplainArgs) -> Result<ExitCode> {
    let file = QueryFile::read(&args.file)?;
    if !file.is_standing() {
        let path = args.file.display();
        return Err(Error::usage(format!(
            "{path}: a batch job has no streaming plan; `lakeward sql \"EXPLAIN …\"` shows how a statement runs"
        )));
    }
    let query = plan_file(config, &args.file).await?;
    // Files that are wrong read nothing; `lakeward check` tells of them.
    let others = read_queries(&config.queries.dir, &mut Refusals::default())?;
    let readers: Vec<&str> =
        others.iter().filter(|other| other.reads(&file.name)).map(|other| other.name.as_ref()).collect();
    let counted = count(config, &query).await;
    let out_of_orderness = micros(config.watermark.out_of_orderness);
    answer(&draw(&file, &query, (&config.stream.table, out_of_orderness), &readers, counted))?;
    Ok(ExitCode::SUCCESS)
}

/// Counts groups in the query's own table; nothing when there is no lake, no table or no row yet.
async fn count(config: &Config, query: &StandingQuery) -> Option<Counted> {
    let StandingQuery::Windowed(windowed) = query else { return None };
    // Its answers tell nothing of the rows that were kept for them.
    if windowed.is_buffered() {
        return None;
    }
    let view = LakeView::open(config).await.ok().filter(|view| view.has(query.name()))?;
    let (table, day) = (query.name(), &windowed.output().partition_by);
    let start = query.start_column()?;
    let sql = format!(
        "SELECT max(n) AS n, count(*) AS windows FROM (SELECT count(*) AS n FROM {table} \
         WHERE {day} = (SELECT max({day}) FROM {table}) GROUP BY {start})"
    );
    let rows = view.sql(&sql, Params::new()).await.ok()?;
    let batch = rows.iter().find(|batch| batch.num_rows() == 1)?;
    let number = |column: usize| {
        batch.column(column).as_primitive_opt::<Int64Type>().and_then(|numbers| numbers.iter().next().flatten())
    };
    Some(Counted { groups: number(0)?, windows: number(1)? })
}

fn draw(
    file: &QueryFile,
    query: &StandingQuery,
    (stream, out_of_orderness): (&str, Micros),
    readers: &[&str],
    counted: Option<Counted>,
) -> String {
    let plan = query.describe();
    let mut drawing = Drawing::default();
    drawing.title(&file.name, &file.comment);
    let source = |driver: &Driver| match driver {
        Driver::Stream => format!("stream {stream}"),
        Driver::View(parent) => format!("view {}: the rows of its windows as they close", parent.name),
    };
    let mut sources: Vec<String> = query.drivers().into_iter().map(source).collect();
    sources.push(format!("reads {}", list(&plan.columns)));
    drawing.step("source", &sources);
    let files = plan.files.iter().map(|file| format!("the file {file}: as it is when the job starts"));
    let joined: Vec<String> = query.lookups().iter().map(joined_with).chain(files).collect();
    if !joined.is_empty() {
        drawing.step("joins", &joined);
    }
    drawing.step("rows", &[plan.filter.as_ref().map_or("every row".into(), |filter| format!("where {filter}"))]);
    if let Some(window) = &plan.window {
        drawing.step("window", &[plan.source.clone(), closing(window.allowed_lateness)]);
        if !window.groups.is_empty() {
            drawing.step("groups", &[list(&window.groups)]);
        }
        let size = if window.keeps_rows { kept(window.group_bytes) } else { estimate(window.group_bytes, counted) };
        let mut state = vec![size, held(window, out_of_orderness)];
        if window.grows {
            state.push("a group grows with the values it keeps one by one (DISTINCT, ORDER BY)".into());
        }
        drawing.step("state", &state);
        if let Some(having) = &window.having {
            drawing.step("having", std::slice::from_ref(having));
        }
    }
    drawing.step("select", &[list(&plan.select)]);
    drawing.step("table", &table(&plan));
    drawing.step("then", &follow_ups(query, stream, readers));
    drawing.last("plan", &[format!("fingerprint {}", &plan.fingerprint[..16.min(plan.fingerprint.len())])]);
    drawing.0
}

fn joined_with(lookup: &Lookup) -> String {
    let tables: Vec<&str> = lookup.tables.iter().map(AsRef::as_ref).collect();
    format!("{}: as of one version an epoch, read again after each commit that changes it", tables.join(", "))
}

fn closing(lateness: Micros) -> String {
    match lateness {
        0 => "closes as soon as the watermark reaches its end".into(),
        _ => format!("closes when the watermark has passed its end by {}", length(lateness)),
    }
}

fn kept(row_bytes: usize) -> String {
    let (each, rows) = (ByteSize::b(row_bytes as u64), thousands(BUFFERED_ROWS_MAX));
    format!("about {each} a row; every row of an open window is kept, up to {rows} of all of them")
}

fn estimate(group_bytes: usize, counted: Option<Counted>) -> String {
    let each = format!("about {} a group and open window", ByteSize::b(group_bytes as u64));
    let Some(Counted { groups, windows }) = counted else {
        return format!("{each}; how many groups: unknown until the lake holds a closed window");
    };
    let bytes = usize::try_from(groups).unwrap_or(0).saturating_mul(group_bytes);
    format!(
        "{each}; {} groups in the fullest of the newest day's {} windows: {} a window",
        thousands(groups),
        thousands(windows),
        ByteSize::b(bytes as u64)
    )
}

/// How much is open at once when rows come in as late as they may: of windows the newest and those that still wait for
/// late rows, of hops every one that covers now.
fn held(window: &WindowPlan, out_of_orderness: Micros) -> String {
    let waiting = |length: Micros| (out_of_orderness + window.allowed_lateness + length - 1) / length;
    let (slice, held) = match window.shape {
        WindowShape::Tumble(grid) => {
            return format!("up to {} windows are open at once", thousands(1 + waiting(grid.length())));
        }
        WindowShape::Session { gap } => return format!("a group is open until {} after its last row", length(gap)),
        WindowShape::Hop { slides, cells } => (slides.length(), cells + waiting(slides.length())),
        WindowShape::Cumulate { steps, cells } => {
            (steps.length(), cells * (1 + waiting(steps.length().saturating_mul(cells))))
        }
    };
    let held = thousands(held);
    format!("up to {held} windows are open at once, held as {held} slices of {}", length(slice))
}

fn table(plan: &StreamingPlan) -> Vec<String> {
    let name = &plan.output.name;
    let when = if plan.window.is_some() { "once, when a window closes" } else { "in the epoch that reads the row" };
    let mut lines = vec![
        format!("{name}, partitioned by {}: rows are added {when}", plan.output.partition_by),
        list(&plan.output_columns()),
    ];
    if !plan.output.sort_by.is_empty() {
        lines.push(format!("files are sorted by {}", plan.output.sort_by.join(", ")));
    }
    lines
}

fn follow_ups(query: &StandingQuery, stream: &str, readers: &[&str]) -> Vec<String> {
    let read = match readers {
        [] => "no other query reads it".to_owned(),
        some => format!("read by {}", some.join(", ")),
    };
    let corrected = match (query, query.driver()) {
        _ if query.is_beyond_correction() => {
            "what comes late never reaches it: its rows do not tell their windows; select `window_start`".to_owned()
        }
        (StandingQuery::Stateless(_), Driver::Stream) => "no row is late: each is answered by itself".to_owned(),
        (StandingQuery::Windowed(_), Driver::Stream) => {
            format!("late rows stay in `{stream}` with `_late = true`; reconcile restates their windows")
        }
        (_, Driver::View(_)) => {
            let parents = query.drivers().into_iter().filter_map(|driver| match driver {
                Driver::View(parent) => Some(parent.name.as_ref()),
                Driver::Stream => None,
            });
            format!("reconcile restates it after {}", parents.collect::<Vec<_>>().join(", "))
        }
    };
    vec![read, corrected]
}

/// A length of time as people say it.
fn length(micros: Micros) -> String {
    let length = std::time::Duration::from_micros(micros.unsigned_abs());
    humantime::format_duration(length).to_string()
}

/// Lines from the source down.
#[derive(Default)]
struct Drawing(String);

impl Drawing {
    fn title(&mut self, name: &str, comment: &str) {
        self.0.push_str(name);
        for line in wrapped(&comment.replace('\n', " ")) {
            self.0.push_str(&format!("\n  {line}"));
        }
    }

    /// One step of the stream: its label, and what is true of it.
    fn step(&mut self, label: &str, lines: &[String]) {
        self.put("├─ ", "│  ", label, lines);
    }

    fn last(&mut self, label: &str, lines: &[String]) {
        self.put("└─ ", "   ", label, lines);
    }

    fn put(&mut self, first: &str, more: &str, label: &str, lines: &[String]) {
        let lines = lines.iter().flat_map(|line| wrapped(line));
        for (index, line) in lines.enumerate() {
            let (branch, label) = if index == 0 { (first, label) } else { (more, "") };
            self.0.push_str(&format!("\n{branch}{label:<LABEL$}{}", line.replace(UNBROKEN, " ")));
        }
    }
}

/// Items of a list, each to be kept on one line.
fn list(items: &[String]) -> String {
    items.iter().map(|item| item.replace(' ', UNBROKEN)).collect::<Vec<_>>().join(", ")
}

/// A text in lines of at most [`WIDTH`] letters, cut at plain spaces.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let full = lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() > WIDTH);
        if full && lines.last().is_some_and(|line| !line.is_empty()) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use crate::clock::MICROS_PER_SECOND;
    use crate::contract::read_folder;
    use crate::sql::{Catalog, plan_all};

    use super::*;

    /// The shipped queries as drawn and a join of windows, with this much counted in their lake.
    async fn drawn(counted: Option<Counted>) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let contracts = read_folder(&root.join("lake")).unwrap();
        let mut refused = Refusals::default();
        let mut files = read_queries(&root.join("queries"), &mut refused).unwrap();
        files.push(QueryFile::read(&root.join("tests/golden/queries/window_join.sql")).unwrap());
        let catalog = Catalog::new(Arc::new(contracts["transactions"].clone()), contracts).unwrap();
        let queries = plan_all(&files, catalog, &mut refused).await.unwrap();
        assert!(refused.is_empty(), "{refused}");
        let mut drawings = Vec::new();
        for query in &queries {
            let file = files.iter().find(|file| file.name == *query.name()).unwrap();
            let readers: Vec<&str> =
                files.iter().filter(|other| other.reads(&file.name)).map(|other| other.name.as_ref()).collect();
            drawings.push(draw(file, query, ("transactions", 10 * MICROS_PER_SECOND), &readers, counted));
        }
        drawings.join("\n\n") + "\n"
    }

    #[tokio::test]
    async fn the_shipped_queries_are_drawn_as_blessed() {
        let shown = drawn(None).await;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/explain.txt");
        if std::env::var_os("LAKEWARD_BLESS").is_some() {
            fs::write(&path, &shown).unwrap();
        }
        assert_eq!(shown, fs::read_to_string(&path).unwrap_or_default());
    }

    #[tokio::test]
    async fn state_is_counted_where_there_is_a_lake() {
        let counted = Some(Counted { groups: 1_204, windows: 60 });
        let state = "about 128 B a group and open window; 1,204 groups in the fullest of the newest day's 60 windows: 150.5 KiB \
                     a window";
        assert_eq!(estimate(128, counted), state);
        assert!(drawn(None).await.contains("unknown until the lake"));
        assert!(!drawn(counted).await.contains("unknown until the lake"));
    }

    #[test]
    fn long_lines_go_on_below_their_label() {
        let mut drawing = Drawing::default();
        drawing.title("q", "Why.");
        drawing.step("reads", &["word ".repeat(30)]);
        drawing.last("plan", &["done".into()]);
        let lines: Vec<&str> = drawing.0.lines().collect();
        assert_eq!(lines[..2], ["q", "  Why."]);
        assert!(lines[2].starts_with("├─ reads    word") && lines[3].starts_with("│           word"), "{}", drawing.0);
        assert_eq!(lines[4], "└─ plan     done");
    }
}
