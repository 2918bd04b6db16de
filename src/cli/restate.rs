//! The commands that restate windows of a lake at rest.

use std::process::ExitCode;

use super::output::{answer, thousands};
use super::run::host;
use super::tools::given_range;
use super::{BatchArgs, Beside, beside};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::pipeline::{self, AtRest, RestatedTable};
use crate::token::TokenKey;

/// `lakeward lake reconcile`.
pub(super) async fn reconcile(config: Config, beside: Beside) -> Result<ExitCode> {
    beside::refuse(&config, beside).await?;
    let tables = pipeline::reconcile(&at_rest(config)?).await?;
    if tables.is_empty() {
        answer("no closed window has late rows it does not know: nothing was written")?;
    }
    for table in &tables {
        tell(table)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `lakeward batch FILE --from … --to … --write`.
pub(super) async fn write(config: &Config, args: &BatchArgs) -> Result<ExitCode> {
    if !args.params.is_empty() {
        return Err(Error::usage("`--param` does not go with `--write`: a standing query has no parameters"));
    }
    if args.from.is_none() && args.to.is_none() {
        return Err(Error::usage(
            "`--write` replaces the windows between `--from` and `--to`: give at least one of them; all of the lake is \
             `--from 0001-01-01T00:00:00Z`",
        ));
    }
    let range = given_range(args.from.as_deref(), args.to.as_deref())?;
    beside::refuse(config, args.beside).await?;
    tell(&pipeline::write_windows(&at_rest(config.clone())?, &args.file, range).await?)?;
    Ok(ExitCode::SUCCESS)
}

/// Who writes to a lake at rest: this process.
pub(super) fn at_rest(config: Config) -> Result<AtRest> {
    // The key exists since the lake does: a new one would only be refused.
    let (token_key, _) = TokenKey::load(&config.token, false)?;
    Ok(AtRest { config, clock: Clock::System, token_key, host: host() })
}

fn tell(table: &RestatedTable) -> Result<()> {
    let RestatedTable { table, windows, rows_out, rows_in, files_out, files_in, late_left } = table;
    if *late_left > 0 {
        let rows = thousands(*late_left);
        answer(&format!(
            "{table}: {rows} late rows stay beside their windows, of which rows were erased or have expired"
        ))?;
    }
    if (*files_out, *files_in) == (0, 0) && *late_left > 0 {
        return Ok(());
    }
    let [windows, rows_out, rows_in] = [windows, rows_out, rows_in].map(|n| thousands(*n));
    answer(&format!(
        "{table}: {windows} windows restated, {rows_in} rows for {rows_out} (files: {files_out} out, {files_in} in)"
    ))
}
