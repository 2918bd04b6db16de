//! Query files: a comment saying why the query exists, then one statement.
//!
//! The one law: a file holds exactly one statement, and positions in messages are positions in the file.
//! Reading a file parses it and checks its options; whether it can stream is decided when it is planned.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    CreateTableOptions, CreateView, Expr, FunctionArg, FunctionArgExpr, Ident, Query, Spanned, SqlOption,
    Statement as SqlStatement, TableFactor, Value, Visit,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::interval::duration;
use super::lasting::check_lasting;
use super::place::{Refusal, Refusals, Words};
use crate::clock::Micros;
use crate::error::{Error, Result, SourceText};
use crate::syntax::{self, Look, look, look_at_exprs};

/// Operators in a row: more is no expression that somebody wrote, and more than some thousands are too deep to plan.
const OPERATORS_MAX: usize = 1_000;

/// Options of `CREATE MATERIALIZED VIEW … WITH (…)`.
const OPTIONS: [&str; 3] = ["partition_by", "sort_by", "allowed_lateness"];

/// One parsed query file.
#[derive(Clone, Debug)]
pub struct QueryFile {
    /// As it was opened, and as messages name it.
    pub path: PathBuf,
    /// The materialized view's name; for a batch job the file's name without `.sql`.
    pub name: Arc<str>,
    /// The comment on top of the file.
    pub comment: String,
    pub(super) text: SourceText,
    pub(super) job: Job,
}

/// What a file asks for.
#[derive(Clone, Debug)]
pub(super) enum Job {
    Standing(Box<View>),
    Batch(Box<Statement>),
}

/// A materialized view as written.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) query: Box<Query>,
    /// Where the statement begins: the position of what has no better one.
    pub(super) at: Span,
    pub(super) name_at: Span,
    pub(super) partition_by: Option<Ident>,
    /// Columns rows are sorted by inside a file.
    pub(super) sort_by: Vec<Ident>,
    /// How long a window stays open after the watermark has passed its end, and where that is said.
    pub(super) allowed_lateness: Option<(Micros, Span)>,
    /// What is wrong around the SELECT: told together with what is wrong inside it.
    pub(super) refused: Refusals,
}

impl QueryFile {
    /// Reads and parses one file.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unreadable file and as in [`QueryFile::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = syntax::read(path)
            .map_err(|error| Error::usage(format!("cannot read the query file `{}`: {error}", path.display())))?;
        Self::parse(path, &text)
    }

    /// Parses the text of a file; `path` is what messages name.
    ///
    /// # Errors
    /// [`Error::Usage`] with file, line and column: a syntax error, not exactly one statement, a statement whose effect
    /// would not outlive it. (Wrong options of a view are told when it is planned, with everything else.)
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let parsed = parse_statement(text).and_then(|statement| classify(statement, start_of(text)));
        let source = SourceText::new(path.display().to_string(), text);
        let (name, job) = parsed.map_err(|refusal| refusal.in_text(&source))?;
        let stem = || path.file_stem().map_or_else(|| "query".into(), |stem| stem.to_string_lossy().as_ref().into());
        let (name, comment) = (name.unwrap_or_else(stem), leading_comment(text));
        Ok(Self { path: path.to_owned(), name, comment, text: source, job })
    }

    /// Whether the statement reads the table `name`, as itself or through a window.
    pub fn reads(&self, name: &str) -> bool {
        let names = match &self.job {
            Job::Standing(view) => tables_read(view.query.as_ref()),
            Job::Batch(statement) => match statement.as_ref() {
                Statement::Statement(statement) => tables_read(statement.as_ref()),
                _ => Vec::new(),
            },
        };
        names.iter().any(|(read, _)| read == name)
    }

    /// Where the view's name stands.
    fn name_at(&self) -> Span {
        match &self.job {
            Job::Standing(view) => view.name_at,
            Job::Batch(_) => Span::empty(),
        }
    }

    /// Whether the file is a materialized view, to be kept up to date by the stream; else it is a batch job.
    pub fn is_standing(&self) -> bool {
        matches!(self.job, Job::Standing(_))
    }
}

/// Every `*.sql` file directly in a folder that parses, in order of file names. Those that do not, and the second of two
/// views of one name, are among `refused`.
///
/// # Errors
/// [`Error::Usage`] for an unreadable folder.
pub fn read_queries(folder: &Path, refused: &mut Refusals) -> Result<Vec<QueryFile>> {
    let unreadable = |error| Error::usage(format!("cannot read the queries folder `{}`: {error}", folder.display()));
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "sql") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let mut files: Vec<QueryFile> = Vec::with_capacity(paths.len());
    for path in &paths {
        let Some(file) = refused.gather(QueryFile::read(path))? else { continue };
        if let Some(twin) =
            files.iter().find(|other| other.is_standing() && file.is_standing() && other.name == file.name)
        {
            let (name, twin) = (&file.name, twin.path.display());
            let refusal = Refusal::new(file.name_at(), format!("`{name}` is already declared in `{twin}`"));
            refused.push(refusal.help("rename one of them").of(&file.text));
            continue;
        }
        files.push(file);
    }
    Ok(files)
}

/// Parses exactly one statement.
pub(super) fn parse_statement(text: &str) -> Result<Statement, Refusal> {
    let planner = |error| foreign(text, Refusal::planner(&error, &[], &Words::default()).or_at(end_of(text)));
    let mut statements = DFParserBuilder::new(text).build().map_err(planner)?.parse_statements().map_err(planner)?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => check_depth(statement),
        (None, _) => Err(Refusal::new(start_of(text), "no statement").help("write one, like a SELECT")),
        (Some(_), more) => {
            let message = format!("{} statements; a query file holds one", more + 1);
            Err(Refusal::new(start_of(text), message).help("move each into a file of its own"))
        }
    }
}

/// Adds what Lakeward has for words of other engines that end the parsing.
fn foreign(text: &str, refusal: Refusal) -> Refusal {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(str::to_uppercase).collect();
    let has = |sought: &[&str]| words.windows(sought.len()).any(|found| found == sought);
    let is_window = |word: &str| ["TUMBLE", "HOP", "CUMULATE", "SESSION"].contains(&word);
    let said = refusal.to_string();
    let found = |letters: &[char]| letters.iter().any(|letter| said.contains(&format!("found: {letter}")));
    match () {
        // What word processors make of quotes and of a minus.
        () if found(&['‘', '’', '“', '”']) => refusal.help("write text between straight quotes: `'…'`"),
        () if found(&['–', '—']) => refusal.help("write a minus as `-`"),
        () if said.contains("found: EMIT") => {
            refusal.help("leave it out: the rows of a window are written once, when it has closed")
        }
        () if said.contains("found: SYSTEM_TIME") || has(&["FOR", "SYSTEM_TIME"]) => {
            refusal.help("leave it out: each epoch joins one version of a table, which its slot names")
        }
        () if words.windows(2).any(|pair| is_window(&pair[0]) && pair[1] == "TABLE") || has(&["DESCRIPTOR"]) => {
            refusal.help("name table and column alone: `TUMBLE(transactions, event_time, INTERVAL '1 minute')`")
        }
        () => refusal,
    }
}

/// Refuses expressions so deep that planning them would not end well: it goes down them by recursion.
fn check_depth(statement: Statement) -> Result<Statement, Refusal> {
    let Statement::Statement(parsed) = &statement else { return Ok(statement) };
    let deepest = look_at_exprs(parsed.as_ref(), |expr| {
        let operators = std::iter::successors(Some(expr), |expr| match expr {
            Expr::BinaryOp { left, .. } => Some(left.as_ref()),
            _ => None,
        });
        match operators.count() > OPERATORS_MAX {
            true => ControlFlow::Break(expr.span()),
            false => ControlFlow::Continue(()),
        }
    });
    match deepest {
        ControlFlow::Break(at) => {
            Err(Refusal::new(at, format!("an expression of more than {OPERATORS_MAX} operators in a row"))
                .help("write `IN (…)` for many `OR`s, or join a file beside the query"))
        }
        ControlFlow::Continue(()) => Ok(statement),
    }
}

/// The tables a statement names and where, those in the first argument of a table function included.
pub(super) fn tables_read(statement: &impl Visit) -> Vec<(String, Span)> {
    let mut read = Tables(Vec::new());
    let _: ControlFlow<()> = look(statement, &mut read);
    read.0
}

struct Tables(Vec<(String, Span)>);

impl Look for Tables {
    type Break = ();

    fn table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, args, .. } = factor else { return ControlFlow::Continue(()) };
        let table = match args.as_ref().map(|args| args.args.first()) {
            Some(Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(table))))) => Some(table),
            Some(_) => None,
            None => name.0.last().and_then(|part| part.as_ident()),
        };
        self.0.extend(table.map(|table| (normal(table), table.span)));
        ControlFlow::Continue(())
    }
}

/// Where the first word after comments and blank lines stands.
pub(super) fn start_of(text: &str) -> Span {
    for (line, content) in (1..).zip(text.lines()) {
        let word = content.trim_start();
        if !word.is_empty() && !word.starts_with("--") {
            let column = content.chars().count() - word.chars().count() + 1;
            let at = Location::new(line, u64::try_from(column).unwrap_or(1));
            return Span::new(at, at);
        }
    }
    Span::empty()
}

/// Where the text ends: what the parser means when it knows no place.
fn end_of(text: &str) -> Span {
    let (line, last) = (1..).zip(text.trim_end().split('\n')).last().unwrap_or((1, ""));
    let at = Location::new(line, u64::try_from(last.chars().count() + 1).unwrap_or(1));
    Span::new(at, at)
}

fn leading_comment(text: &str) -> String {
    let lines = text.lines().map(str::trim).skip_while(|line| line.is_empty());
    let comment: Vec<&str> = lines.map_while(|line| line.strip_prefix("--")).map(str::trim).collect();
    comment.join("\n")
}

fn classify(statement: Statement, at: Span) -> Result<(Option<Arc<str>>, Job), Refusal> {
    let view = match statement {
        Statement::Statement(sql) => match *sql {
            SqlStatement::CreateView(view) if view.materialized => view,
            other => return batch(Statement::Statement(Box::new(other)), at),
        },
        other => return batch(other, at),
    };
    let [name] = view.name.0.as_slice() else {
        return Err(Refusal::new(view.name.span(), "a materialized view's name has one part"));
    };
    let name = name.as_ident().map(|ident| normal(ident).into());
    Ok((name, Job::Standing(Box::new(standing(view, at)))))
}

fn batch(statement: Statement, at: Span) -> Result<(Option<Arc<str>>, Job), Refusal> {
    check_lasting(&statement, at)?;
    Ok((None, Job::Batch(Box::new(statement))))
}

fn standing(view: CreateView, at: Span) -> View {
    let name_at = view.name.span();
    let mut parsed = View {
        query: view.query,
        at,
        name_at,
        partition_by: None,
        sort_by: Vec::new(),
        allowed_lateness: None,
        refused: Refusals::default(),
    };
    if let Some(column) = view.columns.first() {
        let message = "a list of columns after the view's name";
        let help = "name the columns with AS in the SELECT";
        parsed.refused.push(Refusal::new(column.name.span, message).help(help));
    }
    if view.or_replace || view.or_alter || view.if_not_exists || view.temporary {
        let message = "a view is neither replaced nor temporary: the file is the query, edit it in place";
        parsed.refused.push(Refusal::new(at, message).help("write `CREATE MATERIALIZED VIEW name`"));
    }
    let options = match view.options {
        CreateTableOptions::None => Vec::new(),
        CreateTableOptions::With(options) | CreateTableOptions::Options(options) => options,
        other => {
            parsed.refused.push(Refusal::new(at, format!("options are written `WITH (…)`, not `{other}`")));
            Vec::new()
        }
    };
    for (index, option) in options.iter().enumerate() {
        let result = read_option(&mut parsed, option, &options[..index]);
        parsed.refused.keep(result);
    }
    parsed
}

fn read_option(view: &mut View, option: &SqlOption, before: &[SqlOption]) -> Result<(), Refusal> {
    let SqlOption::KeyValue { key, value } = option else {
        let message = format!("an option is written `name = 'value'`, not `{option}`");
        return Err(Refusal::new(option.span(), message).or_at(view.at));
    };
    let text = match value {
        Expr::Value(literal) => match &literal.value {
            Value::SingleQuotedString(text) => Some((text, literal.span)),
            _ => None,
        },
        _ => None,
    };
    let name = normal(key);
    if !OPTIONS.contains(&name.as_str()) {
        return Err(Refusal::new(key.span, format!("no option `{}`", key.value)).near(&name, OPTIONS));
    }
    if before.iter().any(|other| matches!(other, SqlOption::KeyValue { key, .. } if normal(key) == name)) {
        return Err(Refusal::new(key.span, format!("option `{name}` is given twice")));
    }
    let Some((text, at)) = text else {
        let message = format!("`{name}` takes text in quotes, not `{value}`");
        return Err(Refusal::new(value.span(), message).or_at(key.span));
    };
    if name == "partition_by" {
        view.partition_by = Some(Ident::with_span(at, text.to_lowercase()));
        return Ok(());
    }
    if name == "sort_by" {
        for column in text.split(',').map(|column| column.trim().to_lowercase()) {
            if column.is_empty() || view.sort_by.iter().any(|known| known.value == column) {
                let message = format!("`sort_by`: `{text}`: different column names, separated by commas, are expected");
                return Err(Refusal::new(at, message));
            }
            view.sort_by.push(Ident::with_span(at, column));
        }
        return Ok(());
    }
    let lateness = duration(text, &format!("`{name}`"), at)?;
    if lateness < 0 {
        return Err(Refusal::new(at, format!("`{name}` cannot be negative")));
    }
    view.allowed_lateness = Some((lateness, at));
    Ok(())
}

/// An identifier as SQL compares it: lower case unless quoted.
pub(super) fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<QueryFile> {
        QueryFile::parse(Path::new("queries/q.sql"), text)
    }

    #[test]
    fn a_view_has_its_name_comment_and_options() {
        let text = "-- Why.\n-- More.\n\nCREATE MATERIALIZED VIEW Spend WITH (partition_by = 'event_date', \
                    allowed_lateness = '10 seconds') AS SELECT 1 AS one";
        let file = parse(text).unwrap();
        assert_eq!((file.name.as_ref(), file.comment.as_str()), ("spend", "Why.\nMore."));
        let Job::Standing(view) = &file.job else { panic!("not standing") };
        assert_eq!(view.allowed_lateness.unwrap().0, 10_000_000);
        assert_eq!(view.partition_by.as_ref().unwrap().value, "event_date");
    }

    #[test]
    fn everything_else_is_a_batch_job_named_after_its_file() {
        for text in ["SELECT 1", "COPY t TO 'x.csv'", "EXPLAIN SELECT 1", "WITH t AS (SELECT 1) SELECT * FROM t"] {
            let file = parse(text).unwrap();
            assert!(!file.is_standing(), "{text}");
            assert_eq!(file.name.as_ref(), "q");
        }
    }

    #[test]
    fn a_folder_is_read_in_order_and_two_views_of_one_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let view = "CREATE MATERIALIZED VIEW v AS SELECT 1 AS one";
        fs::write(folder.path().join("b.sql"), "SELECT 2").unwrap();
        fs::write(folder.path().join("a.sql"), view).unwrap();
        fs::write(folder.path().join("notes.txt"), "no SQL").unwrap();
        let mut refused = Refusals::default();
        let names = |refused: &mut Refusals| -> Vec<Arc<str>> {
            read_queries(folder.path(), refused).unwrap().into_iter().map(|file| file.name).collect()
        };
        assert_eq!(names(&mut refused), ["v".into(), Arc::from("b")]);
        assert!(refused.is_empty(), "{refused}");
        fs::write(folder.path().join("c.sql"), view).unwrap();
        fs::write(folder.path().join("d.sql"), "SELEC 1").unwrap();
        assert_eq!(names(&mut refused), ["v".into(), Arc::from("b")]);
        assert!(refused.contains("c.sql:1:26: `v` is already declared in"), "{refused}");
        assert!(refused.contains("d.sql:1:1: expected: an SQL statement"), "{refused}");
    }
}
