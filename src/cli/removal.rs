//! `lakeward lake expire` and `lakeward lake erase`: rows that leave the lake for good.
//!
//! The one law: a card number is read from standard input, becomes its token, and is shown and kept nowhere.

use std::io::BufRead;
use std::process::ExitCode;

use chrono::DateTime;
use serde_json::json;

use super::output::{answer, thousands};
use super::restate::at_rest;
use super::{EraseArgs, WritingArgs, beside};
use crate::clock::Micros;
use crate::config::{Config, micros};
use crate::error::{Context, Error, Result};
use crate::pipeline::{self, ErasedTable, Erasure, ExpiredTable};
use crate::token::{TokenKey, Tokenizer};

/// Cards of one call: a request names one or a few; a list of customers is better erased in pieces that end soon.
const CARDS_MAX: usize = 1_000;

/// `lakeward lake expire [TABLE…]`.
pub(super) async fn expire(config: Config, args: &WritingArgs) -> Result<ExitCode> {
    beside::refuse(&config, args.beside).await?;
    let tables = pipeline::expire(&at_rest(config)?, &args.of.tables).await?;
    if args.of.json {
        answer(&serde_json::to_string(&tables).context(|| "writing what was done")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if tables.is_empty() {
        answer("no table holds a date that is older than its contract's `keep`: nothing was taken out")?;
    }
    for table in &tables {
        answer(&expired(table))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn expired(done: &ExpiredTable) -> String {
    let ExpiredTable { table, partitions, rows, files } = done;
    let dates = match (partitions.first(), partitions.last()) {
        (Some(first), Some(last)) if first != last => {
            format!("{} dates, {first} to {last}", thousands(partitions.len() as u64))
        }
        (first, _) => first.cloned().unwrap_or_default(),
    };
    format!("{table}: {dates}: {} rows of {} files taken out", thousands(*rows), thousands(*files))
}

/// `lakeward lake erase --card-token TOKEN…` or `--card-number -`.
pub(super) async fn erase(config: Config, args: &EraseArgs) -> Result<ExitCode> {
    beside::refuse(&config, args.beside).await?;
    let tokens = tokens(&config, args, &mut std::io::stdin().lock())?;
    let at = at_rest(config)?;
    // The files it replaces stay readable as older versions until a vacuum; the next one after this deletes them.
    let kept_until = at.clock.now().saturating_add(micros(at.config.retention.keep));
    let Erasure { tables, behind } = pipeline::erase(&at, &tokens).await?;
    if args.json {
        let gone = (!tables.is_empty()).then(|| show(kept_until));
        answer(&json!({"tables": tables, "old_files_kept_until": gone}).to_string())?;
    } else if tables.is_empty() {
        answer("no table holds such a row: nothing was erased")?;
    } else {
        for table in &tables {
            answer(&erased(table))?;
        }
        let by_whom = match at.config.retention.enabled {
            true => "the daily vacuum of a running job, or `lakeward lake vacuum`, deletes them after that",
            false => "`lakeward lake vacuum` deletes them after that",
        };
        answer(&format!("the files as they were stay until {} (`retention.keep`): {by_whom}", show(kept_until)))?;
    }
    // What was done is told all the same: there is nothing to tell of it the next time.
    behind.map_or(Ok(ExitCode::SUCCESS), Err)
}

fn erased(done: &ErasedTable) -> String {
    let ErasedTable { table, rows, partitions, files_out, files_in } = done;
    let [rows, partitions, files_out, files_in] = [rows, partitions, files_out, files_in].map(|n| thousands(*n));
    format!("{table}: {rows} rows of {partitions} dates erased (files: {files_out} out, {files_in} in)")
}

fn show(time: Micros) -> String {
    DateTime::from_timestamp_micros(time)
        .map_or_else(|| "-".into(), |time| time.format("%Y-%m-%d %H:%M UTC").to_string())
}

/// The tokens asked for, or those of the numbers on standard input, one a line.
fn tokens(config: &Config, args: &EraseArgs, input: &mut impl BufRead) -> Result<Vec<String>> {
    let tokens = match &args.card_number {
        None => args.card_token.clone(),
        Some(from) if from == "-" => read_numbers(config, input)?,
        Some(_) => {
            return Err(Error::usage(
                "`--card-number` takes `-` only, and reads the number from standard input: on a command line it would be kept \
                 by the shell and seen by others",
            ));
        }
    };
    if let Some(place) = tokens.iter().position(|token| !Tokenizer::is_token(token.as_bytes())) {
        return Err(Error::usage(format!(
            "`--card-token` number {}: expected a token as tables hold it, `tok_<version>_<32 hex digits>`; of a card number \
             use `--card-number -`",
            place + 1
        )));
    }
    match tokens.len() {
        0 => Err(Error::usage("no card number on standard input")),
        many if many > CARDS_MAX => Err(Error::usage(format!("{many} cards at once: at most {CARDS_MAX}"))),
        _ => Ok(tokens),
    }
}

fn read_numbers(config: &Config, input: &mut impl BufRead) -> Result<Vec<String>> {
    let (key, _) = TokenKey::load(&config.token, false)?;
    let mut tokenizer = Tokenizer::new(key);
    let mut tokens = Vec::new();
    for (place, line) in input.lines().enumerate() {
        let line = line.context(|| "reading standard input")?;
        let digits: String = line.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        if digits.is_empty() {
            continue;
        }
        if !Tokenizer::is_card_number(digits.as_bytes()) {
            return Err(Error::usage(format!(
                "line {} of standard input is no card number of 11 to 19 digits",
                place + 1
            )));
        }
        tokens.push(tokenizer.token(&digits).to_owned());
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(folder: &tempfile::TempDir) -> Config {
        let key = folder.path().join("key");
        std::fs::write(&key, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n").unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let set = format!("token.key_file={}", key.display());
        Config::load(None, &[set]).unwrap()
    }

    fn asked(tokens: &[&str], number: Option<&str>, input: &str) -> Result<Vec<String>> {
        let args = EraseArgs {
            card_token: tokens.iter().map(|token| (*token).to_owned()).collect(),
            card_number: number.map(str::to_owned),
            json: false,
            beside: super::super::Beside { beside_a_job: false },
        };
        let folder = tempfile::tempdir().unwrap();
        super::tokens(&config(&folder), &args, &mut input.as_bytes())
    }

    #[test]
    fn numbers_become_tokens_and_are_never_repeated() {
        // Computed with Python's `hmac` module.
        let token = "tok_1_24938f9a9679fe70c7d98144da818bed";
        assert_eq!(asked(&[], Some("-"), "4992-3463 98065154184\n\n").unwrap(), [token]);
        assert_eq!(asked(&[token], None, "").unwrap(), [token]);
        for (tokens, number, input) in [
            (&[][..], Some("4992346398065154184"), ""),
            (&[], Some("-"), "49923463980651541849\n"),
            (&[], Some("-"), "\n"),
        ] {
            let error = asked(tokens, number, input).unwrap_err().to_string();
            assert!(!error.contains("499"), "{error}");
        }
        let error = asked(&[token, "4992346398065154184"], None, "").unwrap_err().to_string();
        assert!(error.contains("number 2") && !error.contains("499"), "{error}");
    }

    #[test]
    fn what_was_done_is_one_line_a_table() {
        let mut done = ExpiredTable { table: "t".into(), rows: 12_345, files: 3, ..ExpiredTable::default() };
        done.partitions.insert("2026-11-01".into());
        assert_eq!(expired(&done), "t: 2026-11-01: 12,345 rows of 3 files taken out");
        done.partitions.insert("2026-11-02".into());
        assert!(expired(&done).contains("2 dates, 2026-11-01 to 2026-11-02"));
        let done = ErasedTable { table: "t".into(), rows: 4, partitions: 2, files_out: 3, files_in: 2 };
        assert_eq!(erased(&done), "t: 4 rows of 2 dates erased (files: 3 out, 2 in)");
    }
}
