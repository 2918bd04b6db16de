//! A table is dropped for good: nothing that any query needs, nothing of it stays, whoever dies on the way leaves what the
//! same command ends, and a lake without it is as sound as before.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::plain::{first_and_late, site, write};
use crate::support::{Scratch, text};

/// A lake of three days with the tables `minutes` and `dear`, and an export beside it.
fn lived() -> (Scratch, Vec<PathBuf>) {
    let scratch = site(Scratch::new(), &[]);
    let (first, late) = first_and_late(11, 600);
    let files = vec![write(&scratch, "first.ndjson", &first), write(&scratch, "late.ndjson", &late)];
    scratch.summary(&["--source", files[0].to_str().unwrap(), "--pace", "4000"]);
    (scratch, files)
}

fn query(scratch: &Scratch, name: &str) -> PathBuf {
    scratch.path("queries").join(format!("{name}.sql"))
}

/// The newest slot.
fn head(lake: &Path) -> (PathBuf, Value) {
    let slots = fs::read_dir(lake.join("_epochs")).unwrap().map(|slot| slot.unwrap().path());
    let newest = slots.filter(|path| path.extension().is_some_and(|e| e == "json")).max().unwrap();
    let slot = serde_json::from_slice(&fs::read(&newest).unwrap()).unwrap();
    (newest, slot)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

#[test]
fn what_is_needed_stays_and_what_is_not_goes_whole() {
    let (scratch, files) = lived();
    for (table, says) in [
        ("events", "belongs to every lake"),
        ("epochs", "belongs to every lake"),
        ("dear", "the query `dear` writes this table"),
        ("deer", "no table `deer`"),
    ] {
        let output = scratch.run(&["lake", "drop", table]);
        assert!(output.status.code() == Some(2) && text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    let text_of_dear = fs::read_to_string(query(&scratch, "dear")).unwrap();
    // Its table stays with a contract, and another query looks things up in it.
    scratch.must(&["lake", "ddl", "--write", "--table", "dear"]);
    fs::remove_file(query(&scratch, "dear")).unwrap();
    let reader = "CREATE MATERIALIZED VIEW met AS SELECT e.at, e.day AS event_date, e.id, d.amount AS amount FROM events e \
                  JOIN dear d ON e.id = d.id";
    fs::write(query(&scratch, "met"), reader).unwrap();
    let output = scratch.run(&["lake", "drop", "dear"]);
    assert!(text(&output.stderr).contains("`met` reads the table `dear`"), "{}", text(&output.stderr));
    fs::remove_file(query(&scratch, "met")).unwrap();
    fs::remove_file(scratch.path("contracts").join("dear.sql")).unwrap();

    assert!(scratch.path("plain/dear").read_dir().unwrap().count() > 0);
    let done: Value = serde_json::from_str(&scratch.must(&["lake", "drop", "dear", "--json"])).unwrap();
    assert!(done["objects"].as_u64().unwrap() > 8 && done["exported"].as_u64().unwrap() > 2, "{done}");
    assert!(!scratch.lake().join("dear").exists());
    let left =
        fs::read_dir(scratch.path("plain/dear")).unwrap().map(|date| date.unwrap().path().read_dir().unwrap().count());
    assert_eq!(left.sum::<usize>(), 0);
    let (_, slot) = head(&scratch.lake());
    assert_eq!((&slot["dropped"]["dear"], slot.get("dropping")), (&done["slot"], None));
    // The lake goes on without it.
    let said = scratch.must(&["audit"]);
    assert!(said.contains("the table `dear` was dropped"), "{said}");
    let status = scratch.must(&["lake", "status"]);
    assert!(status.contains("minutes") && !status.contains("dear"), "{status}");
    scratch.summary(&["--source", files[1].to_str().unwrap(), "--allow-late"]);
    scratch.must(&["lake", "reconcile"]);
    scratch.must(&["audit"]);
    assert!(!scratch.lake().join("dear").exists());
    // A query of that name begins anew, and its table can go again.
    fs::write(query(&scratch, "dear"), text_of_dear).unwrap();
    let more = write(&scratch, "more.ndjson", &first_and_late(12, 200).0);
    scratch.summary(&["--source", more.to_str().unwrap(), "--allow-late"]);
    assert!(scratch.lake().join("dear/_delta_log").exists());
    scratch.must(&["audit"]);
    fs::remove_file(query(&scratch, "dear")).unwrap();
    scratch.must(&["lake", "drop", "dear"]);
    assert!(!scratch.lake().join("dear").exists());
    scratch.must(&["audit"]);
}

#[test]
fn killed_on_the_way_the_table_is_nobodys_and_the_same_command_ends_it() {
    let (scratch, files) = lived();
    let text_of_dear = fs::read_to_string(query(&scratch, "dear")).unwrap();
    fs::remove_file(query(&scratch, "dear")).unwrap();
    let before = scratch.path("before");
    copy(&scratch.lake(), &before);
    copy(&scratch.path("plain"), &scratch.path("plain_before"));
    scratch.must(&["lake", "drop", "dear"]);
    // The slot that decided it, with its fence, and all that was there before.
    let decided = {
        let (newest, slot) = head(&scratch.lake());
        let epoch = slot["dropped"]["dear"].as_u64().unwrap();
        let slots = newest.parent().unwrap();
        (epoch - 1..=epoch).map(|epoch| slots.join(format!("{epoch:020}.json"))).collect::<Vec<_>>()
    };
    for slot in decided {
        fs::copy(&slot, before.join("_epochs").join(slot.file_name().unwrap())).unwrap();
    }
    let log = |lake: &Path| lake.join("dear/_delta_log");
    let commits = |lake: &Path| {
        let mut all: Vec<PathBuf> = fs::read_dir(log(lake)).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    type Kill<'a> = Box<dyn Fn(&Path) + 'a>;
    let kills: [Kill<'_>; 4] = [
        Box::new(|_| {}),
        Box::new(|lake| fs::remove_dir_all(lake.join("dear/_symlink_format_manifest")).unwrap()),
        Box::new(|lake| {
            let all = commits(lake);
            all[all.len() / 2..].iter().for_each(|commit| fs::remove_file(commit).unwrap());
        }),
        Box::new(|lake| fs::remove_dir_all(log(lake)).unwrap()),
    ];
    for (number, kill) in kills.into_iter().enumerate() {
        fs::remove_dir_all(scratch.lake()).unwrap();
        fs::remove_dir_all(scratch.path("plain")).unwrap();
        copy(&before, &scratch.lake());
        copy(&scratch.path("plain_before"), &scratch.path("plain"));
        kill(&scratch.lake());
        // Nobody takes it for a table, and whoever wants one of its name is told.
        assert!(!scratch.must(&["lake", "status"]).contains("dear"), "{number}");
        scratch.must(&["audit"]);
        assert_eq!(
            scratch.must(&["sql", "select count(*) > 0 as n from minutes", "--format", "csv"]).trim(),
            "n\ntrue"
        );
        fs::write(query(&scratch, "dear"), &text_of_dear).unwrap();
        let output = scratch.run(&["run", "--source", files[0].to_str().unwrap(), "--until-caught-up"]);
        assert!(text(&output.stderr).contains("`lakeward lake drop dear`"), "{number}: {}", text(&output.stderr));
        fs::remove_file(query(&scratch, "dear")).unwrap();
        // A job without it runs on; then the command ends what was begun.
        scratch.summary(&["--source", files[1].to_str().unwrap(), "--allow-late"]);
        scratch.must(&["audit"]);
        let said = scratch.must(&["lake", "drop", "dear"]);
        assert!(said.contains("dropping it is ended"), "{number}: {said}");
        assert!(!scratch.lake().join("dear").exists(), "{number}");
        let (_, slot) = head(&scratch.lake());
        assert_eq!(slot.get("dropping"), None, "{number}");
        scratch.must(&["audit"]);
    }
}
