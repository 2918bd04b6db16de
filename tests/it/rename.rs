//! A table is renamed as the documentation says: its very lines are run, for a query with windows and for one without, one of
//! them with a contract; afterwards the new table holds what the old one held, and nothing of the old one is left.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::events::{Event, SECOND_US, START_US, events_from};
use crate::plain::{first_and_late, site, write};
use crate::support::{Scratch, duckdb, text};

const DAY_US: i64 = 86_400 * SECOND_US;

/// The shell lines below a heading of a page.
fn documented(page: &str, heading: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect("the heading is there");
    let (_, block) = section.split_once("```sh\n").expect("a block of shell lines");
    block.split("```").next().unwrap().to_owned()
}

/// A folder to stand in as the documentation does, and a `lakeward` that reads this scratch's lake and file.
fn at_work(scratch: &Scratch, file: &Path) -> std::path::PathBuf {
    let work = scratch.path("work");
    fs::create_dir_all(work.join("bin")).unwrap();
    symlink(scratch.path("queries"), work.join("queries")).unwrap();
    symlink(scratch.path("contracts"), work.join("lake")).unwrap();
    let command = scratch.command(&[]);
    let settings: Vec<String> = command.get_args().map(|arg| format!("'{}'", arg.to_str().unwrap())).collect();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = run ] && {{ shift; set -- run --source '{}' \"$@\"; }}\nexec '{}' \"$@\" {}\n",
        file.display(),
        env!("CARGO_BIN_EXE_lakeward"),
        settings.join(" ")
    );
    let binary = work.join("bin/lakeward");
    fs::write(&binary, script).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    work
}

fn rows(scratch: &Scratch, table: &str) -> Vec<Vec<Value>> {
    duckdb(&format!("SELECT * FROM {} ORDER BY ALL", scratch.delta(table)))
}

#[test]
fn a_table_is_renamed_as_the_documentation_says() {
    let scratch = site(Scratch::new(), &[]);
    let (first, _) = first_and_late(21, 600);
    let file = write(&scratch, "first.ndjson", &first);
    scratch.summary(&["--source", file.to_str().unwrap(), "--pace", "4000"]);
    scratch.must(&["lake", "ddl", "--write", "--table", "dear"]);
    let (work, mut held) = (at_work(&scratch, &file), Vec::new());
    for (old, new) in [("minutes", "by_minute"), ("dear", "costly")] {
        let before = rows(&scratch, old);
        assert!(before.len() > 20, "{old}");
        let lines = documented("lake.md", "Rename a table").replace("OLD", old).replace("NEW", new);
        assert!(lines.contains(&format!("lakeward lake drop {old}")), "{lines}");
        let path = format!("{}:{}", work.join("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        for (name, value) in scratch.command(&[]).get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let output = shell.args(["-e", "-c", &lines]).current_dir(&work).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{lines}\n{}{}", text(&output.stdout), text(&output.stderr));
        // What the end of the file had closed is open in the new one, until the stream goes on.
        let now = rows(&scratch, new);
        let missing: Vec<_> = before.iter().filter(|row| !now.contains(row)).collect();
        assert!(missing.len() <= 2 && now.iter().all(|row| before.contains(row)), "{new} lacks {missing:?}");
        held.push((new, before));
        assert!(!scratch.lake().join(old).exists());
        assert_eq!(
            fs::read_dir(scratch.path("plain").join(old))
                .unwrap()
                .map(|date| date.unwrap().path().read_dir().unwrap().count())
                .sum::<usize>(),
            0
        );
        assert!(scratch.path("plain").join(new).read_dir().unwrap().count() > 0, "{new} is not exported");
        assert_eq!(scratch.path("contracts").join(format!("{new}.sql")).exists(), old == "dear");
    }
    let mut random = ChaCha8Rng::seed_from_u64(22);
    // Identities of their own: those of the first events are numbered alike.
    let later: Vec<Event> = events_from(&mut random, START_US + 3 * DAY_US, 100, DAY_US)
        .into_iter()
        .map(|event| Event { json: event.json.replace("\"e0", "\"later-0"), ..event })
        .collect();
    let file = write(&scratch, "later.ndjson", &later);
    scratch.summary(&["--source", file.to_str().unwrap()]);
    for (new, before) in held {
        let now = rows(&scratch, new);
        let missing: Vec<_> = before.iter().filter(|row| !now.contains(row)).collect();
        assert!(missing.is_empty() && now.len() > before.len(), "{new} lacks {missing:?}");
    }
    scratch.must(&["audit"]);
    let linted: Value = serde_json::from_str(&scratch.must(&["lake", "check", "--json"])).unwrap();
    for table in ["by_minute", "costly"] {
        assert_eq!(linted[table]["findings"], serde_json::json!([]), "{table}");
    }
}
