//! Cases as they lie on disk.
//!
//! The one law: a case that is not understood is an error that names its file; nothing is skipped in silence.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;

use crate::clock::Micros;
use crate::error::{Context, Error, Refusals, Result};
use crate::files::FileFormat;
use crate::pipeline::Step;
use crate::sql::{QueryFile, read_queries};

/// What a query's folder of cases is called: the query file's name with this in place of `sql`.
const EXTENSION: &str = "test";
const CASE_FILE: &str = "case.toml";
const INPUT: &str = "input";

/// What the clock shows unless a case says: late enough that no row is from the future. 2100-01-01T00:00:00Z.
const NOW: Micros = 4_102_444_800_000_000;

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    pub folder: PathBuf,
    /// Each is a shard, in order of names.
    pub inputs: Vec<PathBuf>,
    pub steps: Vec<Step>,
    /// What the clock shows, microseconds UTC.
    pub now: Micros,
    /// In place of the configuration's `watermark.out_of_orderness`.
    pub out_of_orderness: Option<std::time::Duration>,
}

/// A query file and its cases.
#[derive(Clone, Debug)]
pub struct QueryCases {
    /// The query's table, or a batch job's name.
    pub query: Arc<str>,
    pub path: PathBuf,
    pub is_standing: bool,
    /// In order of names; empty when the query has no test.
    pub cases: Vec<Case>,
}

/// `case.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CaseFile {
    steps: Vec<String>,
    now: Option<String>,
    out_of_orderness: Option<String>,
}

/// The queries directly in a folder, each with its cases; of one query when `path` is its file.
///
/// # Errors
/// [`Error::Usage`] for a query that does not parse, a case that is not understood, cases of a query that is not there.
pub fn find_cases(path: &Path) -> Result<Vec<QueryCases>> {
    let folder = if path.is_file() { path.parent().unwrap_or(Path::new(".")) } else { path };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut refused = Refusals::default();
    let files = read_queries(folder, &mut refused)?;
    refused.or(()).map_err(Error::Usage)?;
    orphans(folder, &files)?;
    let wanted = files.into_iter().filter(|file| !path.is_file() || file.path.file_name() == path.file_name());
    let found: Vec<QueryCases> = wanted.map(of_query).collect::<Result<_>>()?;
    if found.is_empty() {
        return Err(Error::usage(format!("no query `{}`: name a folder of queries or a *.sql file", path.display())));
    }
    Ok(found)
}

fn of_query(file: QueryFile) -> Result<QueryCases> {
    let folder = file.path.with_extension(EXTENSION);
    let mut cases = Vec::new();
    if folder.is_dir() {
        for entry in entries(&folder)? {
            if !entry.is_dir() {
                let message = "is no case; a case is a folder with `input.csv` or `input.ndjson` and `expected.csv`";
                return Err(Error::usage(format!("`{}` {message}", entry.display())));
            }
            cases.push(read_case(&entry)?);
        }
    }
    Ok(QueryCases { query: Arc::clone(&file.name), is_standing: file.is_standing(), path: file.path, cases })
}

/// Refuses cases whose query was renamed or removed: they would no longer be run.
fn orphans(folder: &Path, files: &[QueryFile]) -> Result<()> {
    for entry in entries(folder)? {
        let is_cases = entry.is_dir() && entry.extension().is_some_and(|extension| extension == EXTENSION);
        if is_cases && !files.iter().any(|file| file.path.with_extension(EXTENSION) == entry) {
            let query = entry.with_extension("sql");
            return Err(Error::usage(format!("`{}`: there is no query `{}`", entry.display(), query.display())));
        }
    }
    Ok(())
}

fn read_case(folder: &Path) -> Result<Case> {
    let mut inputs = Vec::new();
    for path in entries(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(INPUT) && FileFormat::of(&path).is_ok() {
            inputs.push(path);
        } else if name != CASE_FILE && !super::expected::is_expected(&name) {
            return Err(Error::usage(format!(
                "`{}` has no meaning in a case: it holds `input*.csv` or `input*.ndjson`, `expected.csv` and `{CASE_FILE}`",
                path.display()
            )));
        }
    }
    if inputs.is_empty() {
        return Err(Error::usage(format!("`{}` has no `input.csv` or `input.ndjson`", folder.display())));
    }
    let path = folder.join(CASE_FILE);
    let named = |message: String| Error::usage(format!("`{}`: {message}", path.display()));
    let case: CaseFile = match path.is_file() {
        true => Figment::from(Toml::file_exact(&path)).extract().map_err(|error| named(error.to_string()))?,
        false => CaseFile::default(),
    };
    let steps = case.steps.iter().map(|text| step(text, &inputs)).collect::<Result<_, _>>().map_err(named)?;
    let now = case.now.map_or(Ok(NOW), |text| {
        let time = chrono::DateTime::parse_from_rfc3339(&text).map(|time| time.timestamp_micros());
        time.map_err(|_| named(format!("`now` is `{text}`, which is no time like `2026-11-23T00:00:00Z`")))
    })?;
    let out_of_orderness = case.out_of_orderness.map(|text| {
        humantime::parse_duration(&text).map_err(|error| named(format!("`out_of_orderness` is `{text}`: {error}")))
    });
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Case { name, folder: folder.to_owned(), inputs, steps, now, out_of_orderness: out_of_orderness.transpose()? })
}

/// `read`, `read 3`, `read 3 of input_b.csv`, `tick`, `commit`, `restart`.
fn step(text: &str, inputs: &[PathBuf]) -> Result<Step, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let file = |name: &str| {
        let place = inputs.iter().position(|path| path.file_name().is_some_and(|file| file == name));
        place.ok_or_else(|| format!("the step `{text}` names no input file of the case"))
    };
    let number = |count: &str| {
        count.parse().map(Some).map_err(|_| format!("the step `{text}`: `{count}` is no number of records"))
    };
    match words.as_slice() {
        ["read"] => Ok(Step::Read { file: 0, records: None }),
        ["read", "of", name] => Ok(Step::Read { file: file(name)?, records: None }),
        ["read", count] => Ok(Step::Read { file: 0, records: number(count)? }),
        ["read", count, "of", name] => Ok(Step::Read { file: file(name)?, records: number(count)? }),
        ["tick"] => Ok(Step::Fold),
        ["commit"] => Ok(Step::Commit),
        ["restart"] => Ok(Step::Restart),
        _ => Err(format!(
            "no step `{text}`; write `read`, `read 3`, `read 3 of input_b.csv`, `tick`, `commit` or `restart`"
        )),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = || format!("reading `{}`", folder.display());
    let read = fs::read_dir(folder).map_err(|error| Error::usage(format!("`{}`: {error}", folder.display())))?;
    let mut paths = Vec::new();
    for entry in read {
        let path = entry.context(unreadable)?.path();
        // Editors and file managers leave hidden files behind.
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn found(files: &[(&str, &str)]) -> Result<Vec<QueryCases>> {
        find_cases(folder(files).path())
    }

    #[test]
    fn cases_lie_beside_their_query() {
        let toml = "steps = ['read 3 of input_b.ndjson', 'read', 'tick', 'commit', 'restart']\nout_of_orderness = '5s'\n\
                    now = '1970-01-01T00:00:01Z'";
        let queries = found(&[
            ("a.sql", "SELECT 1"),
            ("b.sql", "SELECT 1"),
            ("a.test/late/input_a.csv", ""),
            ("a.test/late/input_b.ndjson", ""),
            ("a.test/late/case.toml", toml),
            ("a.test/late/expected.csv", ""),
            ("a.test/early/input.ndjson", ""),
        ])
        .unwrap();
        let names: Vec<_> = queries.iter().map(|query| (query.query.as_ref(), query.cases.len())).collect();
        assert_eq!(names, [("a", 2), ("b", 0)]);
        let [early, late] = queries[0].cases.as_slice() else { panic!("{queries:?}") };
        assert_eq!((early.name.as_str(), early.steps.len(), early.now), ("early", 0, NOW));
        let steps = [
            Step::Read { file: 1, records: Some(3) },
            Step::Read { file: 0, records: None },
            Step::Fold,
            Step::Commit,
            Step::Restart,
        ];
        assert_eq!((late.steps.as_slice(), late.now), (&steps[..], 1_000_000));
        assert_eq!(late.out_of_orderness, Some(std::time::Duration::from_secs(5)));
    }

    #[test]
    fn what_is_no_case_is_said() {
        let case = |name: &'static str, text: &'static str| {
            let error = found(&[("a.sql", "SELECT 1"), ("a.test/x/input.csv", ""), (name, text)]).unwrap_err();
            assert!(matches!(error, Error::Usage(_)));
            error.to_string()
        };
        assert!(case("gone.test/x/input.csv", "").contains("there is no query"));
        assert!(case("a.test/input.csv", "").contains("is no case"));
        assert!(case("a.test/x/rows.csv", "").contains("has no meaning in a case"));
        assert!(case("a.test/y/expected.csv", "").contains("has no `input.csv`"));
        assert!(case("a.test/x/case.toml", "step = []").contains("step"));
        assert!(case("a.test/x/case.toml", "steps = ['wait']").contains("no step `wait`"));
        assert!(case("a.test/x/case.toml", "steps = ['read many']").contains("`many` is no number"));
        assert!(case("a.test/x/case.toml", "steps = ['read 1 of b.csv']").contains("names no input file"));
        assert!(case("a.test/x/case.toml", "now = 'noon'").contains("`noon`"));
        assert!(case("a.test/x/case.toml", "out_of_orderness = 'soon'").contains("`soon`"));
    }
}
