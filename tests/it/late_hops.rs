//! Rows that come when some of their windows have closed and others have not.

use std::fs;
use std::path::Path;

use crate::support::Scratch;

const QUERIES: [(&str, &str); 4] = [
    ("hops", "HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '3 minutes')"),
    ("growing", "CUMULATE(transactions, event_time, INTERVAL '1 minute', INTERVAL '10 minutes')"),
    ("sessions", "SESSION(transactions, event_time, INTERVAL '5 seconds', state)"),
    ("days", "TUMBLE(transactions, event_time, INTERVAL '1 day', 'America/New_York')"),
];

/// The golden input's first record at another time of 2020-09-13, under another identity.
fn record(id: &str, time: &str) -> String {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/input.ndjson");
    let golden = fs::read_to_string(golden).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(golden.lines().next().unwrap()).unwrap();
    record["trans_date_trans_time"] = format!("2020-09-13 {time}").into();
    record["trans_num"] = format!("{id:0>32}").into();
    record.to_string() + "\n"
}

#[test]
fn a_row_counts_in_the_windows_that_were_open_when_it_came() {
    let scratch = Scratch::new();
    let queries = scratch.path("queries");
    fs::create_dir(&queries).unwrap();
    let write = |name: &str, window: &str| {
        let text = format!(
            "CREATE MATERIALIZED VIEW {name} AS SELECT window_start, window_end, CAST(window_start AS DATE) AS event_date, \
             state, count(*) AS n, sum(amount) AS total FROM {window} GROUP BY window_start, window_end, state"
        );
        fs::write(queries.join(format!("{name}.sql")), text).unwrap();
    };
    QUERIES.iter().for_each(|(name, window)| write(name, window));
    let scratch = scratch.set(&format!("queries.dir={}", queries.display()));
    let run = |name: &str, rows: &[(&str, &str)]| {
        let file = scratch.path(name);
        fs::write(&file, rows.iter().map(|(id, time)| record(id, time)).collect::<String>()).unwrap();
        scratch.summary(&["--source", file.to_str().unwrap()])
    };
    // The end of the input closes the last hop, 12:02 to 12:05, with the others.
    run("first.ndjson", &[("a1", "12:00:10"), ("a2", "12:02:20"), ("a3", "12:02:24")]);
    // 12:04:30 is in 12:02 to 12:05, which has closed, and in two hops that have not; 12:01 only in closed ones.
    run("second.ndjson", &[("b1", "12:04:30"), ("b2", "12:01:00"), ("b3", "12:07:00"), ("b4", "12:07:05")]);

    let hops = scratch.must(&["sql", "select window_start, n from hops order by 1", "--format", "csv"]);
    let expected = "window_start,n\n2020-09-13T11:58:00Z,1\n2020-09-13T11:59:00Z,1\n2020-09-13T12:00:00Z,3\n\
                    2020-09-13T12:01:00Z,2\n2020-09-13T12:02:00Z,2\n2020-09-13T12:03:00Z,1\n2020-09-13T12:04:00Z,1\n\
                    2020-09-13T12:05:00Z,2\n2020-09-13T12:06:00Z,2\n2020-09-13T12:07:00Z,2\n";
    assert_eq!(hops, expected);
    let late =
        scratch.must(&["sql", "select transaction_id from transactions where _late order by 1", "--format", "csv"]);
    assert!(late.contains("b1") && late.contains("b2"), "{late}");
    let audit = scratch.must(&["audit"]);
    assert!(QUERIES.iter().all(|(name, _)| audit.contains(name)), "{audit}");

    // Queries that come later know what is open from the lake: the session of b3 and b4 goes on, whole.
    write("newcomers", "SESSION(transactions, event_time, INTERVAL '5 seconds', state)");
    write("new_hops", "HOP(transactions, event_time, INTERVAL '1 minute', INTERVAL '3 minutes')");
    write("sessions", "SESSION(transactions, event_time, INTERVAL '7 seconds', state)");
    run("third.ndjson", &[("c1", "12:07:09"), ("c2", "12:07:30")]);
    let found =
        scratch.must(&["sql", "select window_start, window_end, n from newcomers order by 1", "--format", "csv"]);
    let expected = "window_start,window_end,n\n2020-09-13T12:07:00Z,2020-09-13T12:07:14Z,3\n\
                    2020-09-13T12:07:30Z,2020-09-13T12:07:35Z,1\n";
    assert_eq!(found, expected);
    let found = scratch.must(&["sql", "select window_start, n from new_hops order by 1", "--format", "csv"]);
    let expected = "window_start,n\n2020-09-13T12:05:00Z,4\n2020-09-13T12:06:00Z,4\n2020-09-13T12:07:00Z,4\n";
    assert_eq!(found, expected);
    scratch.must(&["audit"]);
}
