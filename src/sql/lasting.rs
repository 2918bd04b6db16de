//! Statements whose effect would vanish with the one statement a file or a command line is.
//!
//! The one law: what runs leaves an answer, a file or nothing. A session ends with its statement, so a table made or
//! filled in it, or a setting, would be gone before anybody could read it: refused, with what to write instead.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{CreateView, Statement as Sql};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::place::Refusal;

/// Refuses a statement that would leave nothing.
pub(super) fn check_lasting(statement: &Statement, at: Span) -> Result<(), Refusal> {
    let sql = match statement {
        Statement::CopyTo(_) => return Ok(()),
        Statement::Explain(explain) => return check_lasting(&explain.statement, at),
        Statement::Reset(_) => return Err(setting(at, "RESET")),
        Statement::CreateExternalTable(table) => {
            let message = format!("CREATE EXTERNAL TABLE: `{}` would vanish with this statement", table.name);
            return Err(
                Refusal::new(at, message).help("declare the table in `lake/*.sql`, or load the file as a stream")
            );
        }
        Statement::Statement(sql) => sql.as_ref(),
    };
    match sql {
        Sql::Query(_)
        | Sql::Explain { .. }
        | Sql::ExplainTable { .. }
        | Sql::ShowTables { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowFunctions { .. }
        | Sql::ShowVariable { .. } => Ok(()),
        Sql::CreateTable(table) => Err(vanishes(at, "CREATE TABLE", &table.name.to_string(), table.query.is_some())),
        Sql::CreateView(CreateView { materialized: true, name, .. }) => {
            let message =
                format!("the materialized view `{name}` is kept up to date by the streaming job, not from here");
            let help = format!("write it into `queries/{name}.sql` and start `lakeward run`");
            Err(Refusal::new(at, message).help(help))
        }
        Sql::CreateView(view) => Err(vanishes(at, "CREATE VIEW", &view.name.to_string(), true)),
        Sql::Insert(insert) => Err(filled(at, "INSERT", &insert.table.to_string())),
        Sql::Update(update) => Err(filled(at, "UPDATE", &update.table.to_string())),
        Sql::Delete(_) | Sql::Truncate(_) | Sql::Merge(_) | Sql::Drop { .. } | Sql::AlterTable(_) => {
            Err(filled(at, &first_word(sql), ""))
        }
        Sql::Set(_) => Err(setting(at, "SET")),
        other => {
            let message = format!("`{}` is no statement over the lake", first_word(other));
            Err(Refusal::new(at, message).help("write a SELECT, COPY … TO, EXPLAIN, or a materialized view"))
        }
    }
}

fn vanishes(at: Span, what: &str, name: &str, has_query: bool) -> Refusal {
    let refusal = Refusal::new(at, format!("{what}: `{name}` would vanish with this statement"));
    if !has_query {
        return refusal.help("declare the table in `lake/*.sql`; standing queries and streams fill it");
    }
    refusal
        .help("for a file, write `COPY (SELECT …) TO 'file.parquet'`")
        .help(format!("for a table of the lake, write `CREATE MATERIALIZED VIEW {name} AS SELECT …` in `queries/`"))
        .help("for a part of one statement, write `WITH name AS (SELECT …) SELECT …`")
}

fn filled(at: Span, what: &str, table: &str) -> Refusal {
    let table = if table.is_empty() { "a table".to_owned() } else { format!("`{table}`") };
    Refusal::new(at, format!("{what}: {table} of the lake is filled by the streaming job only, one epoch at a time"))
        .help("to keep rows, write `COPY (SELECT …) TO 'file.parquet'`, or a materialized view in `queries/`")
}

fn setting(at: Span, what: &str) -> Refusal {
    Refusal::new(at, format!("{what}: a setting would end with this statement"))
        .help("settings of the job are in `config.toml`, or `--set section.key=value`")
}

fn first_word(statement: &Sql) -> String {
    statement.to_string().split_whitespace().next().unwrap_or_default().to_uppercase()
}
