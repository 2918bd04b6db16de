//! `lakeward lake ddl`: the script for a reader, or contract files for queries that have none.

use std::fs;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use datafusion::sql::sqlparser::tokenizer::Span;

use super::DdlArgs;
use super::output::{answer, say};
use crate::config::Config;
use crate::contract::TableContract;
use crate::ddl::{Dialect, Site, script, tables_of};
use crate::error::{Context, Error, Refusal, Result};
use crate::lake::{Following, Lake, SchemaChange, Table};
use crate::plans::Plans;

/// Prints the script, or writes the files.
pub(super) async fn ddl(config: &Config, args: &DdlArgs) -> Result<ExitCode> {
    match args.dialect {
        Some(dialect) => print(config, args, dialect).await,
        None => write(config, args).await,
    }
}

async fn print(config: &Config, args: &DdlArgs, dialect: Dialect) -> Result<ExitCode> {
    let location = args.location.as_deref();
    let site = Site::new(dialect, &config.lake.url, location, &args.database, args.iam_role.as_deref())?.with_plain(
        dialect,
        &config.plain,
        args.plain_location.as_deref(),
    )?;
    // Another place than the configured lake may be on another server.
    let site = if location.is_none() { site.with_s3(&config.s3)? } else { site };
    let all = Plans::read(config).await?.tables();
    let chosen: Vec<&TableContract> = match &args.table {
        None => all.values().collect(),
        Some(name) => match all.get(name.as_str()) {
            Some(contract) => vec![contract],
            None => {
                let refusal = Refusal::new(Span::empty(), format!("no table `{name}`"));
                return Err(Error::Usage(refusal.near(name, all.keys().map(AsRef::as_ref)).into()));
            }
        },
    };
    let lake = Lake::open_existing(&config.lake.url, &config.s3)?;
    let tables = tables_of(lake.as_ref(), chosen).await?;
    if tables.iter().all(|table| table.version.is_none()) {
        say("the lake has none of these tables yet: no partitions are listed; render again once it has");
    }
    answer(script(dialect, &site, &tables)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// A file for each query whose table has none; never over a file that is there.
async fn write(config: &Config, args: &DdlArgs) -> Result<ExitCode> {
    let plans = Plans::read(config).await?;
    let lake = Lake::open_existing(&config.lake.url, &config.s3)?;
    let wanted = |table: &&TableContract| args.table.as_deref().is_none_or(|name| *table.name == *name);
    let mut written = 0;
    for table in plans.undeclared().filter(wanted) {
        let path = config.lake.contracts.join(format!("{}.sql", table.name));
        let text = table.to_sql();
        // What could not be read again must not stop the next start.
        TableContract::parse(&path.display().to_string(), &text)?;
        let what = || format!("cannot write `{}`", path.display());
        let mut file = match fs::File::create_new(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let (path, name) = (path.display(), &table.name);
                return Err(Error::usage(format!(
                    "`{path}` is there, but declares another table than `{name}`: rename it"
                )));
            }
            Err(error) => return Err(Error::external(what(), error)),
        };
        file.write_all(text.as_bytes()).context(what)?;
        written += 1;
        answer(&format!("{}: {} columns, comments to be filled in", path.display(), table.columns.len()))?;
        let Some(lake) = &lake else { continue };
        match Table::schema_change(lake, table, Following::Query).await? {
            SchemaChange::Refused(why) => say(&format!("the next start will stop: {why}")),
            change => change.sentence(&table.name).iter().for_each(|told| say(&format!("at the next start {told}"))),
        }
    }
    if written == 0 {
        answer("every standing query has its contract: nothing was written")?;
    }
    Ok(ExitCode::SUCCESS)
}
