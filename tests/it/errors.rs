//! What a user sees of wrong files: all of them at once, drawn, and nothing done.

use std::fs;

use crate::support::{Scratch, text};

/// A folder of queries of which two are wrong.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let queries = scratch.path("queries");
    fs::create_dir(&queries).unwrap();
    let view = |name: &str, rest: &str| {
        fs::write(queries.join(format!("{name}.sql")), format!("CREATE MATERIALIZED VIEW {name} AS\n{rest}\n"))
            .unwrap();
    };
    view("fine", "SELECT event_date, city FROM transactions");
    view("first", "SELECT event_date, ctiy, amnt FROM transactions");
    view("second", "SELECT event_date, now() AS at FROM transactions");
    fs::write(queries.join("third.sql"), "INSERT INTO transactions SELECT 1").unwrap();
    let folder = queries.display().to_string();
    scratch.set(&format!("queries.dir={folder}"))
}

#[test]
fn every_bad_file_is_told_at_once_and_nothing_runs() {
    let scratch = scratch();
    let folder = scratch.path("queries").display().to_string();
    for command in [&["check"][..], &["run", "--source", "none.csv", "--until-caught-up"]] {
        let output = scratch.run(command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(!said.contains('\x1b'), "coloured, and no terminal: {said}");
        let heads: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix(&format!("{folder}/"))).collect();
        let expected = [
            "first.sql:2:20: no column `ctiy`",
            "first.sql:2:26: no column `amnt`",
            "second.sql:2:20: `now` answers differently each time",
            "third.sql:1:1: INSERT: `transactions` of the lake is filled by the streaming job only, one epoch at a time",
        ];
        assert_eq!(heads, expected, "{command:?}: {said}");
        assert!(
            said.contains("2 | SELECT event_date, ctiy, amnt FROM transactions\n  |                    ^^^^"),
            "{said}"
        );
        assert!(said.contains("= help: did you mean `city`?"), "{said}");
        assert!(said.ends_with("4 errors in 3 files\n"), "{said}");
        assert!(!scratch.lake().exists(), "{command:?} made a lake");
    }
}

#[test]
fn plans_are_text_and_statements_that_leave_nothing_are_refused() {
    let scratch = Scratch::new();
    let query = "queries/city_minute.sql";
    assert!(scratch.must(&["explain", query]).contains("unknown until the lake"));
    let file = scratch.simulated("day.csv", 5_000);
    scratch.summary(&["--source", file.to_str().unwrap()]);
    let drawn = scratch.must(&["explain", query]);
    assert!(drawn.contains("groups in the fullest of"), "{drawn}");

    let plan = scratch.must(&["sql", "EXPLAIN SELECT state, count(*) AS n FROM transactions GROUP BY state"]);
    assert!(plan.starts_with("logical_plan\n  ") && plan.contains("\n\nphysical_plan\n  "), "{plan}");
    let tree = scratch.must(&["sql", "EXPLAIN FORMAT TREE SELECT count(*) AS n FROM transactions"]);
    assert!(tree.starts_with("physical_plan\n  ┌─"), "{tree}");
    let measured = scratch.must(&["sql", "EXPLAIN ANALYZE SELECT count(amount) AS n FROM transactions"]);
    assert!(measured.contains("Plan with Metrics") && measured.contains("metrics=["), "{measured}");

    let refused = scratch.run(&["sql", "CREATE TABLE spend AS SELECT 1 AS one"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.starts_with("statement:1:1: CREATE TABLE: `spend` would vanish"), "{said}");
    assert!(said.contains("COPY (SELECT …) TO"), "{said}");
}
