//! The demo as a newcomer sees it: started with nothing, asked beside, stopped, and started again.

use std::fs;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::{Scratch, interrupt, slots, wait_for};

/// A demo of smaller numbers: its history is sent in a moment, and the first commit closes windows of it.
fn small(scratch: Scratch) -> Scratch {
    let settings = ["simulate.cards=100", "simulate.history=10m", "simulate.history_rate=5", "simulate.rate=50"];
    settings.iter().fold(scratch, |scratch, setting| scratch.set(setting)).set("commit.interval=2s")
}

/// `lakeward run` without a key, as somebody types it who has just cloned the repository.
fn start(scratch: &Scratch, name: &str) -> Child {
    let file = |kind: &str| fs::File::create(scratch.path(&format!("{name}.{kind}"))).unwrap();
    let mut command = scratch.command(&["run"]);
    command.env_remove("LAKEWARD_TOKEN_KEY").stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
    command.spawn().unwrap()
}

/// Rows and closed windows of each commit it has said.
fn commits(said: &str) -> Vec<(u64, u64)> {
    let number = |word: &str| word.replace(',', "").parse().unwrap();
    let lines = said.lines().filter(|line| line.starts_with("epoch ") && line.ends_with(" ms"));
    let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.map(|words| (number(words[2]), number(words[4]))).collect()
}

/// A number of the summary.
fn total(out: &str, name: &str) -> u64 {
    let line = out.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {out}"));
    line.trim().replace(',', "").parse().unwrap()
}

fn slot(scratch: &Scratch, epoch: usize) -> Value {
    let path = scratch.lake().join(format!("_epochs/{epoch:020}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_newcomer_sees_windows_soon_asks_beside_it_stops_it_and_goes_on() {
    let scratch = Scratch::new();
    let key = scratch.path("token.key");
    let scratch = small(scratch).set(&format!("token.key_file={}", key.display()));
    let (mut written, mut greeted) = (0, Vec::new());
    for name in ["first", "second"] {
        let said = || fs::read_to_string(scratch.path(&format!("{name}.err"))).unwrap();
        let mut job = start(&scratch, name);
        let has_closed = || commits(&said()).iter().any(|(rows, windows)| *rows > 0 && *windows > 0);
        assert!(wait_for(&mut job, has_closed), "{}", said());
        // The second terminal, with what the first one said to type there.
        let greeting = said();
        let line =
            greeting.lines().find(|line| line.contains("lakeward sql \"")).expect("a command for a second terminal");
        let statement = line.split('"').nth(1).unwrap();
        let rows = scratch.must(&["sql", statement, "--format", "csv"]);
        assert_eq!(rows.lines().next(), Some("city,transactions,amount"), "{rows}");
        assert!(rows.lines().count() > 1, "{rows}");
        interrupt(&job);
        let ended = job.wait().unwrap();
        let (said, out) = (said(), fs::read_to_string(scratch.path(&format!("{name}.out"))).unwrap());
        assert_eq!(ended.code(), Some(0), "{said}");
        for part in
            ["stream  http://127.0.0.1:", "(embedded, stream `transactions`)", "queries ", "rows/s", "stopping: "]
        {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
        let lake = scratch.lake().display().to_string();
        assert!(said.lines().any(|line| line.starts_with("lake ") && line.contains(&lake)), "{said}");
        assert!(
            said.contains(&format!("the lake is in {lake}; start again to go on, or delete that folder")),
            "{said}"
        );
        let read = ["read", "written", "duplicates", "rejected", "late"].map(|name| total(&out, name));
        assert!(read[0] > 0 && total(&out, "windows closed") > 0, "{out}");
        assert_eq!((read[0], read[2..].iter().sum()), (read[1], 0), "{out}");
        written += read[1];
        greeted.push(greeting);
    }
    let made = format!("under a new key, made in {}", key.display());
    assert!(greeted[0].contains(&made) && !greeted[1].contains(&made), "{greeted:?}");
    // The stream of the second start is another one of the same name.
    assert_eq!((0..slots(&scratch.lake())).filter(|epoch| slot(&scratch, *epoch)["kind"] == "new_stream").count(), 1);
    let counted = "select count(*) as n, count(distinct transaction_id) as ids from transactions";
    let counted = scratch.must(&["sql", counted, "--format", "csv"]);
    assert_eq!(counted.lines().nth(1), Some(format!("{written},{written}").as_str()), "{counted}");
    scratch.must(&["audit"]);
}
