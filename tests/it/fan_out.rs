//! The job reading by subscriptions that break, fall silent and are taken over, a reshard among them, and by the other way
//! after each restart: the books balance, and each card's order is kept.

use std::fs;

use crate::faults::{ROWS, assert_each_cards_order, scratch, split};
use crate::kill::server_url;
use crate::oracle::assert_lake_equals_input;
use crate::resharding::{all_slots, read_by};
use crate::support::{interrupt, say, text, wait_for};

/// What a subscription can come to. The first one falls silent after an event.
const STORM: &str = r#"
seed = 5
fault = [
    { at = [1], does = { silent_after = 1 } },
    { every = 3, does = { cut_after = 2 } },
    { every = 5, does = { end_after = 1 } },
    { every = 4, does = { repeat_after = 0 } },
    { at = [4], does = { fail_after = { events = 1, code = "ResourceInUseException" } } },
    { every = 7, does = { fail_after = { events = 0, code = "InternalFailureException" } } },
    { operation = "SubscribeToShard", every = 6, does = { answer = { status = 400, code = "ResourceInUseException" } } },
    { operation = "SubscribeToShard", every = 9, does = "reset_after" },
    { operation = "RegisterStreamConsumer", at = [1], does = { answer = { status = 400, code = "LimitExceededException" } } },
    { operation = "GetRecords", every = 13, does = "throttle" },
    { operation = "PutRecords", at = [2], does = "reset_after" },
]
"#;

/// How the stream is read from one start to the next. The third job is killed.
const READERS: [&str; 5] = ["fan_out", "polling", "auto", "polling", "fan_out"];
const KILLED: usize = 2;

#[test]
fn the_books_balance_whichever_way_is_read_and_whatever_becomes_of_subscriptions() {
    let scratch = scratch("pushed");
    let faults = scratch.path("faults.toml");
    fs::write(&faults, STORM).unwrap();
    let listen = ["stream", "--listen", "127.0.0.1:0", "--faults", faults.to_str().unwrap()];
    let mut server = scratch.spawn("stream", &listen);
    let url = server_url(&scratch, &mut server);
    let scratch = scratch.set(&format!("stream.endpoint={url}"));
    let file = scratch.simulated("days.csv", ROWS);
    let read = || all_slots(&scratch).iter().map(read_by).sum::<u64>();
    for (turn, (reader, part)) in READERS.iter().zip(scratch.parts(&file, READERS.len())).enumerate() {
        let name = format!("job-{turn}");
        let mut job = scratch.spawn(&name, &["run", "--set", &format!("stream.reader={reader}")]);
        let before = read();
        scratch.must(&["replay", part.to_str().unwrap()]);
        if turn == 0 {
            split(&url);
        }
        let said = || fs::read_to_string(scratch.path(&format!("{name}.err"))).unwrap();
        let enough = if turn == KILLED { before + 1 } else { u64::from(ROWS) * (turn as u64 + 1) / 5 };
        // The first subscription falls silent, which is noticed in its time and said.
        let has_told = || turn != 0 || said().contains("is polled, and subscribed to again after");
        assert!(wait_for(&mut job, || read() >= enough && has_told()), "{}", said());
        if turn == KILLED {
            job.kill().unwrap();
            job.wait().unwrap();
        } else {
            interrupt(&job);
            assert!(job.wait().unwrap().success(), "{}", said());
        }
    }
    let rest = scratch.summary(&[]);
    scratch.must(&["audit"]);
    assert_lake_equals_input(&scratch, &file, false);
    assert_each_cards_order(&scratch, &file);
    interrupt(&server);
    let ended = server.wait().unwrap();
    let [said, why] = ["out", "err"].map(|kind| text(&fs::read(scratch.path(&format!("stream.{kind}"))).unwrap()));
    say(&format!("the rest: {rest}\n{said}"));
    assert!(ended.success(), "{said}\n{why}");
}
