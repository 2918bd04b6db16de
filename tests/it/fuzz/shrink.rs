//! A failing round made smaller, so that a person can read it.
//!
//! Whatever still fails is as good a witness: the sentence may change on the way.

use super::duck::Duck;
use super::round::Round;

/// Attempts: a few seconds of them.
const ATTEMPTS_MAX: usize = 150;

/// The smallest failing round found, told.
pub async fn smallest(round: Round, message: String, duck: &mut Duck) -> String {
    let (mut best, mut message) = (round, message);
    let mut attempts = 0;
    'again: loop {
        for candidate in simpler(&best) {
            attempts += 1;
            if attempts > ATTEMPTS_MAX {
                break 'again;
            }
            if let Err(said) = candidate.run(duck).await {
                (best, message) = (candidate, said);
                continue 'again;
            }
        }
        break;
    }
    let rows: Vec<String> = best
        .shards
        .iter()
        .enumerate()
        .flat_map(|(shard, events)| events.iter().map(move |event| format!("  {shard}: {}", event.json)))
        .collect();
    format!("{message}\nsteps {:?}\nrows by shard\n{}", best.steps, rows.join("\n"))
}

/// Rounds with something left out, the largest omissions first.
fn simpler(round: &Round) -> Vec<Round> {
    let mut rounds = Vec::new();
    let mut push = |change: &dyn Fn(&mut Round)| {
        let mut simpler = round.clone();
        change(&mut simpler);
        rounds.push(simpler);
    };
    if round.queries.len() > 1 {
        for query in 0..round.queries.len() {
            push(&|simpler| simpler.queries = vec![simpler.queries[query].clone()]);
        }
        return rounds;
    }
    for (shard, events) in round.shards.iter().enumerate() {
        let mut piece = events.len();
        while piece > 0 {
            for from in (0..events.len()).step_by(piece) {
                push(&|simpler| drop(simpler.shards[shard].drain(from..(from + piece).min(events.len()))));
            }
            piece /= 2;
            if events.len() > 64 && piece < 8 {
                break;
            }
        }
    }
    for step in 0..round.steps.len() {
        push(&|simpler| {
            simpler.steps.remove(step);
        });
    }
    for query in &round.queries {
        for aggregate in 0..query.aggregates.len() {
            push(&|simpler| drop(simpler.queries[0].aggregates.remove(aggregate)));
        }
        if query.filter.is_some() {
            push(&|simpler| simpler.queries[0].filter = None);
        }
        if query.having.is_some() {
            push(&|simpler| simpler.queries[0].having = None);
        }
    }
    rounds
}
