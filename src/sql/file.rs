//! Query files: a comment saying why the query exists, then one statement.
//!
//! The one law: a file holds exactly one statement, and positions in messages are positions in the file.
//! Reading a file parses it and checks its options; whether it can stream is decided when it is planned.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    CreateTableOptions, CreateView, Expr, Ident, Query, Spanned, SqlOption, Statement as SqlStatement, Value,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::interval::duration;
use super::place::{Refusal, did_you_mean};
use crate::clock::Micros;
use crate::error::{Error, Result};

/// Options of `CREATE MATERIALIZED VIEW … WITH (…)`.
const OPTIONS: [&str; 2] = ["partition_by", "allowed_lateness"];

/// One parsed query file.
#[derive(Clone, Debug)]
pub struct QueryFile {
    /// As it was opened, and as messages name it.
    pub path: PathBuf,
    /// The materialized view's name; for a batch job the file's name without `.sql`.
    pub name: Arc<str>,
    /// The comment on top of the file.
    pub comment: String,
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
    pub(super) partition_by: Option<Ident>,
    /// How long a window stays open after the watermark has passed its end, and where that is said.
    pub(super) allowed_lateness: Option<(Micros, Span)>,
}

impl QueryFile {
    /// Reads and parses one file.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unreadable file and as in [`QueryFile::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .map_err(|error| Error::usage(format!("cannot read the query file `{}`: {error}", path.display())))?;
        Self::parse(path, &text)
    }

    /// Parses the text of a file; `path` is what messages name.
    ///
    /// # Errors
    /// [`Error::Usage`] with file, line and column: a syntax error, not exactly one statement, an unknown option.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let parsed = parse_statement(text).and_then(|statement| classify(statement, start_of(text)));
        let (name, job) = parsed.map_err(|refusal| refusal.in_file(&path.display().to_string()))?;
        let stem = || path.file_stem().map_or_else(|| "query".into(), |stem| stem.to_string_lossy().as_ref().into());
        Ok(Self { path: path.to_owned(), name: name.unwrap_or_else(stem), comment: leading_comment(text), job })
    }

    /// Whether the file is a materialized view, to be kept up to date by the stream; else it is a batch job.
    pub fn is_standing(&self) -> bool {
        matches!(self.job, Job::Standing(_))
    }
}

/// Every `*.sql` file directly in a folder, in order of file names.
///
/// # Errors
/// [`Error::Usage`] for an unreadable folder or file, a file that does not parse, and two views of one name.
pub fn read_queries(folder: &Path) -> Result<Vec<QueryFile>> {
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
        let file = QueryFile::read(path)?;
        if let Some(twin) =
            files.iter().find(|other| other.is_standing() && file.is_standing() && other.name == file.name)
        {
            let (name, path, twin) = (&file.name, path.display(), twin.path.display());
            return Err(Error::usage(format!("{path}: `{name}` is already declared in `{twin}`; rename one of them")));
        }
        files.push(file);
    }
    Ok(files)
}

/// Parses exactly one statement.
pub(super) fn parse_statement(text: &str) -> Result<Statement, Refusal> {
    let planner = |error| Refusal::planner(&error, &[], &[]);
    let mut statements = DFParserBuilder::new(text).build().map_err(planner)?.parse_statements().map_err(planner)?;
    match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => Ok(statement),
        (None, _) => Err(Refusal::new(start_of(text), "no statement; write one, like a SELECT")),
        (Some(_), more) => {
            Err(Refusal::new(start_of(text), format!("{} statements; a query file holds one", more + 1)))
        }
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

fn leading_comment(text: &str) -> String {
    let lines = text.lines().map(str::trim).skip_while(|line| line.is_empty());
    let comment: Vec<&str> = lines.map_while(|line| line.strip_prefix("--")).map(str::trim).collect();
    comment.join("\n")
}

fn classify(statement: Statement, at: Span) -> Result<(Option<Arc<str>>, Job), Refusal> {
    let Statement::Statement(sql) = statement else { return Ok((None, Job::Batch(Box::new(statement)))) };
    match *sql {
        SqlStatement::CreateView(view) if view.materialized => {
            let [name] = view.name.0.as_slice() else {
                return Err(Refusal::new(view.name.span(), "a materialized view's name has one part"));
            };
            let name = name.as_ident().map(|ident| normal(ident).into());
            Ok((name, Job::Standing(Box::new(standing(view, at)?))))
        }
        other => Ok((None, Job::Batch(Box::new(Statement::Statement(Box::new(other)))))),
    }
}

fn standing(view: CreateView, at: Span) -> Result<View, Refusal> {
    if let Some(column) = view.columns.first() {
        let message = "name the columns with AS in the SELECT, not in a list after the view's name";
        return Err(Refusal::new(column.name.span, message));
    }
    if view.or_replace || view.or_alter || view.if_not_exists || view.temporary {
        let message = "write `CREATE MATERIALIZED VIEW name`: the file is the query, edit it in place";
        return Err(Refusal::new(view.name.span(), message).or_at(at));
    }
    let options = match view.options {
        CreateTableOptions::None => Vec::new(),
        CreateTableOptions::With(options) | CreateTableOptions::Options(options) => options,
        other => return Err(Refusal::new(at, format!("options are written `WITH (…)`, not `{other}`"))),
    };
    let mut parsed = View { query: view.query, at, partition_by: None, allowed_lateness: None };
    for option in &options {
        read_option(&mut parsed, option)?;
    }
    Ok(parsed)
}

fn read_option(view: &mut View, option: &SqlOption) -> Result<(), Refusal> {
    let SqlOption::KeyValue { key, value } = option else {
        return Err(Refusal::new(view.at, format!("an option is written `name = 'value'`, not `{option}`")));
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
        return Err(Refusal::new(key.span, format!("no option `{}`{}", key.value, did_you_mean(&name, OPTIONS))));
    }
    let Some((text, at)) = text else {
        return Err(Refusal::new(value.span(), format!("`{name}` takes text in quotes, not `{value}`")));
    };
    if name == "partition_by" {
        view.partition_by = Some(Ident::with_span(at, text.to_lowercase()));
        return Ok(());
    }
    let lateness = duration(text).map_err(|message| Refusal::new(at, format!("`{name}`: {message}")))?;
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
        for text in ["SELECT 1", "CREATE TABLE t AS SELECT 1", "INSERT INTO t SELECT 1", "COPY t TO 'x.csv'"] {
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
        let names: Vec<_> = read_queries(folder.path()).unwrap().into_iter().map(|file| file.name).collect();
        assert_eq!(names, ["v".into(), Arc::from("b")]);
        fs::write(folder.path().join("c.sql"), view).unwrap();
        assert!(read_queries(folder.path()).unwrap_err().to_string().contains("already declared"));
    }
}
