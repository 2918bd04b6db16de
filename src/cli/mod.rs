//! The command line: what others script against.
//!
//! Exit codes: 0 done, 1 failure, 2 usage or configuration, 75 fenced by another writer. Results go to standard output,
//! everything said on the way to standard error.

mod access;
mod beside;
mod cost;
mod ddl;
mod diff;
mod drop;
mod explain;
mod export;
mod lint;
mod live;
mod maintain;
mod output;
mod refusals;
mod removal;
mod restate;
mod run;
mod standing;
mod test;
mod tools;
mod upkeep;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::ddl::Dialect;
use crate::error::{Error, Result};

/// Stack of a worker thread: planning deep SQL recurses.
const WORKER_STACK_BYTES: usize = 8 << 20;

/// Kinesis micro-batches, windowed SQL, Delta tables every AWS reader accepts.
#[derive(Debug, Parser)]
#[command(version, about, propagate_version = true)]
struct Cli {
    /// A file of settings over the defaults (see `config.toml`).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting over all others.
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The streaming job. Without options: an embedded Kinesis, simulated card holders, a local lake.
    Run(RunArgs),
    /// Validate the configuration and plan every query; writes nothing.
    Check(CheckArgs),
    /// Show what a start would do to the queries and their tables, and what it would cost.
    Diff(DiffArgs),
    /// Serve the embedded Kinesis as a process of its own.
    Stream(StreamArgs),
    /// Write a file of simulated transactions in the data set's own format.
    Simulate(SimulateArgs),
    /// Send a file to the configured stream.
    Replay(ReplayArgs),
    /// Run a file of SQL over the lake.
    Batch(BatchArgs),
    /// Run one SQL statement over the lake.
    Sql(SqlArgs),
    /// Draw how a standing query streams: source, window, state, table.
    Explain(ExplainArgs),
    /// Prove the books of a lake at rest.
    Audit(AuditArgs),
    /// Run the tests of queries: `queries/<query>.test/<case>/`.
    Test(TestArgs),
    /// Look after a lake's tables, and describe them to their readers.
    #[command(subcommand)]
    Lake(LakeCommand),
}

#[derive(Debug, Subcommand)]
enum LakeCommand {
    /// Would Athena, Redshift Spectrum and Glue read these tables, and read the same?
    Check(LakeCheckArgs),
    /// Recompute the closed windows that late rows belong to. A running job does so by itself.
    Reconcile(Beside),
    /// Write the small files of dates that are over together. A running job does so by itself.
    Compact(CompactArgs),
    /// Take out the dates that tables keep no longer (`keep` in their contracts). A running job does so by itself.
    Expire(WritingArgs),
    /// Erase every row of a card, from every table. Aggregates that do not name the card stay as they are.
    Erase(EraseArgs),
    /// How the tables stand: size, files, small ones, versions, checkpoints; and how far manifests, catalog and export are behind.
    Status(StatusArgs),
    /// Print the script that makes the lake's tables known to a reader.
    Ddl(DdlArgs),
    /// Estimate what the lake, and a query of it, cost on AWS.
    Cost(CostArgs),
    /// Write the manifests Spectrum reads, and register tables and partitions, if `catalog.glue` is on. A running job does so.
    Manifest(WritingArgs),
    /// Delete removed files, and commits behind a checkpoint, older than `retention.keep`. A running job does so daily.
    Vacuum(LakeVacuumArgs),
    /// Bring the plain export (`plain.url`) to the dates that are over. A running job does so by itself.
    Export(WritingArgs),
    /// Delete a table that no query writes or reads: catalog, manifests, export, log and files. It does not come back.
    Drop(DropArgs),
    /// Write a checkpoint of each log now. A running job does so every `commit.checkpoint_every` versions.
    Checkpoint(LakeTablesArgs),
}

/// Of commands that write as a job does.
#[derive(Clone, Copy, Debug, Args)]
struct Beside {
    /// On S3, where there is no lock: do not ask whether a job is running. One that is may be stopped by this.
    #[arg(long)]
    beside_a_job: bool,
}

#[derive(Debug, Args)]
struct WritingArgs {
    #[command(flatten)]
    of: LakeTablesArgs,
    #[command(flatten)]
    beside: Beside,
}

#[derive(Debug, Args)]
struct LakeTablesArgs {
    /// Tables of the configured lake; all of them by default.
    tables: Vec<String>,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct LakeVacuumArgs {
    #[command(flatten)]
    of: LakeTablesArgs,
    /// Delete files that no commit has ever named, too: lists the tables.
    #[arg(long)]
    full: bool,
    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct DropArgs {
    /// The table.
    table: String,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    beside: Beside,
}

#[derive(Debug, Args)]
struct CompactArgs {
    /// Only these tables.
    tables: Vec<String>,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    beside: Beside,
}

#[derive(Debug, Args)]
struct EraseArgs {
    /// The card's token, as tables hold it; may be given several times.
    #[arg(long, value_name = "TOKEN", required_unless_present = "card_number")]
    card_token: Vec<String>,
    /// `-`: card numbers are read from standard input, one a line, and become their tokens under the lake's key.
    #[arg(long, value_name = "-", allow_hyphen_values = true, conflicts_with = "card_token")]
    card_number: Option<String>,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    beside: Beside,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct DdlArgs {
    /// Who reads it.
    #[arg(value_enum, required_unless_present = "write")]
    dialect: Option<Dialect>,
    /// Only this table.
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Where the lake is, or will be, for that reader: `s3://BUCKET/lake`. `lake.url` by default.
    #[arg(long, value_name = "URL")]
    location: Option<String>,
    /// Where the plain export is, or will be, for that reader: `s3://BUCKET/lake_plain`. `plain.url` by default.
    #[arg(long, value_name = "URL")]
    plain_location: Option<String>,
    /// The catalog's database, and the schema of views.
    #[arg(long, value_name = "NAME", default_value = "lake")]
    database: String,
    /// The role that Redshift or Glue's crawler takes on.
    #[arg(long, value_name = "ARN")]
    iam_role: Option<String>,
    /// Write a contract file for every standing query that has none, instead of a script.
    #[arg(long, conflicts_with_all = ["dialect", "location", "plain_location", "iam_role"])]
    write: bool,
}

#[derive(Clone, Debug, Default, Args)]
struct RunArgs {
    /// Send this file through the stream (csv, csv.gz, ndjson, ndjson.gz).
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    replay: Option<PathBuf>,
    /// Read these files directly, each as one shard.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    source: Vec<PathBuf>,
    /// End with exit code 0 once all input is committed.
    #[arg(long)]
    until_caught_up: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
    /// Accept a file that lies wholly before what the lake has closed.
    #[arg(long)]
    allow_late: bool,
    /// Go on with a stream that was made anew under the same name, or took another one's place, from its first record.
    #[arg(long)]
    accept_new_stream: bool,
    /// Let the embedded stream, with its simulated card holders, write to a lake on S3.
    #[arg(long)]
    demo: bool,
    /// Answer the history of queries that are new or were edited, beside the stream: from this time on, e.g.
    /// 2026-11-23T00:00:00Z, or all there is.
    #[arg(long, value_name = "FROM", num_args = 0..=1, require_equals = true)]
    backfill: Option<Option<String>>,
    /// Go on where records expired from the stream before they were read: the loss is recorded in the lake.
    #[arg(long)]
    accept_gap: bool,
    /// Rows a second read from each file of `--source`; unlimited by default.
    #[arg(long, value_name = "ROWS_PER_SECOND")]
    pace: Option<u32>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Also ask the stream, the lake's bucket and the catalog whether these credentials may do what the job will do.
    #[arg(long)]
    live: bool,
    /// Print only what they answered, as JSON.
    #[arg(long, requires = "live")]
    json: bool,
}

#[derive(Debug, Args)]
struct DiffArgs {
    /// Print the comparison as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StreamArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4567")]
    listen: String,
    /// A script of faults to put in front of it (docs/faults.md); a fault that never struck ends with exit code 1.
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SimulateArgs {
    /// Transactions to write.
    #[arg(long, value_name = "N")]
    rows: u64,
    /// Where to (csv, csv.gz, ndjson, ndjson.gz).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// The file (csv, csv.gz, ndjson, ndjson.gz).
    file: PathBuf,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum OutputFormat {
    #[default]
    Table,
    Csv,
    Json,
}

#[derive(Debug, Args)]
struct BatchArgs {
    /// The SQL file; of a standing query it prints the rows computed from the lake.
    file: PathBuf,
    /// A value for `$name` in the file.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Windows from this time on (a standing query's file), e.g. 2026-11-23T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Windows before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Replace these windows of the query's table, as far as they have closed, instead of printing them.
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    beside: Beside,
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
struct SqlArgs {
    /// The statement.
    statement: String,
    /// A value for `$name` in the statement.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The query file.
    file: PathBuf,
}

#[derive(Debug, Args)]
struct LakeCheckArgs {
    /// Tables of the configured lake, or folders or `s3://` URLs of any tables or lakes; every table of the configured lake by
    /// default.
    tables: Vec<String>,
    /// Print all findings as JSON.
    #[arg(long)]
    json: bool,
    /// Print the rules instead: what readers do where one is broken, and what mends it.
    #[arg(long, conflicts_with_all = ["tables", "json"])]
    rules: bool,
}

#[derive(Debug, Args)]
struct CostArgs {
    /// Run this statement and estimate what it costs in Athena and Redshift Spectrum.
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    query: Option<String>,
    /// Print the estimate as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct AuditArgs {
    /// Print the findings and the books as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// A folder of queries, or one query's file; the configured folder by default.
    path: Option<PathBuf>,
    /// Write the rows found as those to be expected.
    #[arg(long)]
    bless: bool,
}

/// Parses the command line, runs it, and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse_from(settings_last(std::env::args().collect()));
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&error);
            error.exit_code()
        }
    }
}

/// Moves every `--set` behind all else: clap keeps only the last place of a global option that is given both before and
/// after the subcommand, and would drop the others without a word.
fn settings_last(arguments: Vec<String>) -> Vec<String> {
    let mut settings = Vec::new();
    let mut others = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--set" {
            settings.push(argument);
            settings.extend(arguments.next());
        } else if argument.starts_with("--set=") {
            settings.push(argument);
        } else {
            others.push(argument);
        }
    }
    others.extend(settings);
    others
}

fn start(cli: Cli) -> Result<ExitCode> {
    let config = Config::load(cli.config.as_deref(), &cli.overrides)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(WORKER_STACK_BYTES)
        .build()
        .map_err(|e| Error::external("starting the runtime", e))?;
    // On a worker thread: the main thread's stack is not ours to size.
    let ended = runtime.block_on(async move { tokio::spawn(dispatch(cli.command, config)).await });
    runtime.shutdown_background();
    ended.unwrap_or_else(|panic| Err(Error::external("a bug in lakeward", panic)))
}

async fn dispatch(command: Option<Command>, config: Config) -> Result<ExitCode> {
    match command.unwrap_or_else(|| Command::Run(RunArgs::default())) {
        Command::Run(args) => run::run(config, args).await,
        Command::Check(args) => tools::check(&config, &args).await,
        Command::Diff(args) => diff::diff(&config, &args).await,
        Command::Stream(args) => tools::stream(&config, &args).await,
        Command::Simulate(args) => tools::simulate(&config, &args).await,
        Command::Replay(args) => tools::replay(&config, &args).await,
        Command::Batch(args) => tools::batch(&config, args).await,
        Command::Sql(args) => tools::sql(&config, args).await,
        Command::Explain(args) => explain::explain(&config, &args).await,
        Command::Audit(args) => tools::audit(&config, &args).await,
        Command::Test(args) => test::test(&config, &args).await,
        Command::Lake(command) => lake(config, command).await,
    }
}

async fn lake(config: Config, command: LakeCommand) -> Result<ExitCode> {
    match command {
        LakeCommand::Compact(args) => maintain::compact(config, &args).await,
        LakeCommand::Expire(args) => removal::expire(config, &args).await,
        LakeCommand::Erase(args) => removal::erase(config, &args).await,
        LakeCommand::Status(args) => maintain::status(&config, &args).await,
        LakeCommand::Reconcile(beside) => restate::reconcile(config, beside).await,
        LakeCommand::Check(args) => lint::check(&config, &args).await,
        LakeCommand::Ddl(args) => ddl::ddl(&config, &args).await,
        LakeCommand::Manifest(args) => upkeep::manifest(&config, &args).await,
        LakeCommand::Vacuum(args) => upkeep::vacuum_tables(&config, &args).await,
        LakeCommand::Drop(args) => drop::drop_table(config, &args).await,
        LakeCommand::Export(args) => export::export(&config, &args).await,
        LakeCommand::Checkpoint(args) => upkeep::checkpoint(&config, &args).await,
        LakeCommand::Cost(args) => cost::cost(&config, &args).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_before_and_after_the_command_all_count() {
        let arguments = ["lakeward", "--set", "a.b=1", "run", "--json", "--set=c.d=2", "--set", "e.f=3"];
        let cli = Cli::parse_from(settings_last(arguments.map(str::to_owned).to_vec()));
        assert_eq!(cli.overrides, ["a.b=1", "c.d=2", "e.f=3"]);
        assert!(matches!(cli.command, Some(Command::Run(RunArgs { json: true, .. }))));
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
