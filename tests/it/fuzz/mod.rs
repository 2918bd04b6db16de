//! Random queries × random rows × random cuts, shards, arrival orders, kills and starts: stream = batch = DuckDB.
//!
//! A *round* is one lake: random rows in a few files, a random script for a rehearsal, and several random queries; each
//! view of them is one case. Everything follows from the round's seed. A failing round says its seed and is made smaller first;
//! `LAKEWARD_FUZZ_SEED=<seed> LAKEWARD_FUZZ_CASES=1` plays it again.

mod cells;
mod duck;
mod query;
mod round;
mod shrink;
mod sql;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::support::say;
use duck::Duck;
use round::Round;

/// Cases unless `LAKEWARD_FUZZ_CASES` asks for more: about a minute on two cores in a release build.
const CASES: u64 = 400;
/// Rounds at the same time: as many as the smallest machine this runs on has cores.
const WORKERS: usize = 2;
/// Planning deep SQL recurses, and a debug build's frames are large.
const STACK_BYTES: usize = 32 << 20;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

#[test]
fn stream_batch_and_duckdb_agree_on_any_query() {
    let first = number("LAKEWARD_FUZZ_SEED", 1);
    let wanted = number("LAKEWARD_FUZZ_CASES", CASES);
    let begun = Instant::now();
    let (next, done) = (AtomicU64::new(first), AtomicU64::new(0));
    let failure = Mutex::new(None);
    let work = || {
        let mut duck = Duck::start();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .unwrap();
        while done.load(Ordering::Relaxed) < wanted && failure.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let round = Round::random(seed);
            let cases = round.queries.iter().map(|query| query.files().len() as u64).sum();
            let result = runtime.block_on(round.run(&mut duck));
            if let Err(message) = result {
                let smaller = runtime.block_on(shrink::smallest(round, message, &mut duck));
                let again = format!("play it again with LAKEWARD_FUZZ_SEED={seed} LAKEWARD_FUZZ_CASES=1");
                failure.lock().unwrap().get_or_insert(format!("seed {seed} ({again}):\n{smaller}"));
            }
            let cases_done = done.fetch_add(cases, Ordering::Relaxed) + cases;
            if cases_done / 1_000 > (cases_done - cases) / 1_000 {
                say(&format!("fuzz: {cases_done} cases, seed {seed}, {:.0} s", begun.elapsed().as_secs_f64()));
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..WORKERS {
            let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
            builder.spawn_scoped(threads, work).expect("a thread starts");
        }
    });
    if let Some(message) = failure.into_inner().unwrap() {
        panic!("{message}");
    }
    let cases = done.into_inner();
    say(&format!("fuzz: {cases} cases from seed {first} on agree, {:.0} s", begun.elapsed().as_secs_f64()));
    assert!(cases >= wanted, "only {cases} cases");
}
