//! No card number lands anywhere: ten thousand of them go in, malformed records included, and every output is searched.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::{Scratch, duckdb, text};

/// Numbers of 12 to 19 digits with a right check digit, none like another.
fn card_numbers(count: u64) -> Vec<String> {
    (0..count)
        .map(|n| {
            let length = 12 + n % 8;
            // Any spread of digits will do; the factor is odd, so no two numbers meet.
            let body = format!("4{:018}", (n + 1).wrapping_mul(982_451_653_777) % 1_000_000_000_000_000_000);
            let body = &body[..usize::try_from(length).unwrap() - 1];
            format!("{body}{}", check_digit(body))
        })
        .collect()
}

/// Luhn's.
fn check_digit(body: &str) -> u32 {
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            if place % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { digit }
        })
        .sum();
    (10 - sum % 10) % 10
}

/// Records that hold the number in many ways, good and broken.
fn record(n: usize, card: &str) -> String {
    let record = |cc_num: &str, street: &str, amount: &str| {
        format!(
            "{{\"trans_date_trans_time\":\"2026-01-01 00:{:02}:{:02}\",\"cc_num\":{cc_num},\"merchant\":\"fraud_Shop\",\
             \"category\":\"home\",\"amt\":{amount},\"first\":\"Ann\",\"last\":\"Lee\",\"gender\":\"F\",\"street\":\"{street}\",\
             \"city\":\"Greer\",\"state\":\"SC\",\"zip\":\"29650\",\"lat\":34.9,\"long\":-82.2,\"city_pop\":1000,\
             \"job\":\"Writer\",\"dob\":\"1970-01-01\",\"trans_num\":\"t{n}\",\"unix_time\":1546300800,\"merch_lat\":34.0,\
             \"merch_long\":-82.0,\"is_fraud\":{}}}",
            n / 60 % 60,
            n % 60,
            n % 2
        )
    };
    let good = record(card, "1 Elm Street", "10.50");
    let groups = |between: &str| {
        let digits: Vec<char> = card.chars().collect();
        digits.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(between)
    };
    match n % 14 {
        9 => record(&format!("\"{}\"", groups("  ")), "1 Elm Street", "10.50"),
        10 => record(&format!("\"{}\"", groups(" - ")), "1 Elm Street", "10.50"),
        11 => record(&format!("[\"{}\"]", groups("\",\"")), "1 Elm Street", "10.50"),
        12 => record(&format!("\"{}\"", groups("-")), "1 Elm Street", "-3"),
        13 => record(card, &format!("card {card}"), "10.50"),
        0 | 1 => good,
        2 => record(&format!("\"{card}\""), "1 Elm Street", "10.50"),
        3 => record(card, "1 Elm Street", "-1"),
        4 => record(card, "1 Elm Street", "\"no number\""),
        5 => good[..good.len() - 30].to_owned(),
        6 => good[..good.find(card).unwrap() + card.len()].to_owned(),
        7 => format!("not json at all {card} and {card}"),
        8 => record(&format!("{card}.5"), "1 Elm Street", "10.50"),
        _ => good.replace("\"amt\"", &format!("\"note\":\"paid by {card}\",\"amt\"")).replace("10.50", "0"),
    }
}

#[test]
fn no_card_number_lands_anywhere() {
    let cards = card_numbers(10_000);
    assert_eq!(cards.iter().collect::<BTreeSet<_>>().len(), cards.len());
    for through in ["--source", "--replay"] {
        let scratch = Scratch::new();
        let file = scratch.path("cards.ndjson");
        let lines: Vec<String> = cards.iter().enumerate().map(|(n, card)| record(n, card)).collect();
        fs::write(&file, lines.join("\n")).unwrap();
        let output = scratch
            .command(&["run", through, file.to_str().unwrap(), "--until-caught-up"])
            .env("RUST_LOG", "debug")
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut said = text(&output.stdout) + &text(&output.stderr);
        said += &text(&scratch.run(&["audit"]).stdout);
        for table in ["transactions", "rejects", "fraud_alerts", "epochs"] {
            let rows = duckdb(&format!("SELECT * FROM {}", scratch.delta(table)));
            assert!(table == "fraud_alerts" || !rows.is_empty(), "{through}: nothing in `{table}`");
            said.extend(rows.into_iter().map(|row| serde_json::to_string(&row).unwrap()));
        }
        said += &plain_files(&scratch.lake());
        let joined = said.replace([' ', '-', '.'], "");
        let known: BTreeSet<&str> = cards.iter().map(String::as_str).collect();
        let runs = runs_of_digits(&said).into_iter().chain(runs_of_digits(&joined));
        let parts = runs.flat_map(|run| (12..=19).flat_map(move |length| parts(run, length)));
        let found: BTreeSet<&str> = parts.filter(|part| known.contains(part)).collect();
        assert!(found.is_empty(), "{through}: {} card numbers landed, {:?} among them", found.len(), found.first());
    }
}

/// Slots and logs, as text.
fn plain_files(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            all += &plain_files(&entry);
        } else if entry.extension().is_some_and(|e| e == "json") {
            all += &fs::read_to_string(entry).unwrap();
        }
    }
    all
}

/// Every part of a run that has this length.
fn parts(run: &str, length: usize) -> impl Iterator<Item = &str> {
    (0..(run.len() + 1).saturating_sub(length)).map(move |at| &run[at..at + length])
}

/// Every run of at least twelve digits.
fn runs_of_digits(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_digit()).filter(|run| run.len() >= 12).collect()
}
