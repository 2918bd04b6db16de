//! A second stream needs no Rust: another contract, another query, other columns.

use std::fs;

use crate::support::{Scratch, duckdb};

const CONTRACT: &str = "
-- Readings of meters.
CREATE TABLE readings (
  measured_at TIMESTAMP NOT NULL OPTIONS (field = 'at') COMMENT 'when it was read',
  day         DATE NOT NULL GENERATED ALWAYS AS (CAST(measured_at AS DATE)) COMMENT 'UTC date of measured_at',
  reading_id  STRING NOT NULL OPTIONS (field = 'id') COMMENT 'identity',
  meter       STRING NOT NULL COMMENT 'the meter',
  kilowatts   DECIMAL(20,3) NOT NULL OPTIONS (field = 'kw') CHECK (kilowatts >= 0) COMMENT 'power',
  _source STRING NOT NULL, _shard STRING NOT NULL, _sequence STRING NOT NULL, _sub_sequence INT NOT NULL,
  _arrival_time TIMESTAMP NOT NULL, _epoch BIGINT NOT NULL, _late BOOLEAN NOT NULL
) WITH (format = 'json', event_time = 'measured_at', identity = 'reading_id', partition_key = 'meter',
        partition_by = 'day', sort_by = 'measured_at');
";

const QUERY: &str = "
-- Peak power per meter and quarter of an hour.
CREATE MATERIALIZED VIEW meter_peak
WITH (partition_by = 'day', allowed_lateness = '1 minute')
AS SELECT window_start, window_end, CAST(window_start AS DATE) AS day, meter, count(*) AS readings, max(kilowatts) AS peak
   FROM TUMBLE(readings, measured_at, INTERVAL '15 minutes')
   GROUP BY window_start, window_end, meter;
";

#[test]
fn another_stream_is_another_file() {
    let scratch = Scratch::new();
    let (contracts, queries) = (scratch.path("contracts"), scratch.path("queries"));
    fs::create_dir_all(&contracts).unwrap();
    fs::create_dir_all(&queries).unwrap();
    for table in ["rejects", "epochs"] {
        fs::copy(format!("{}/lake/{table}.sql", env!("CARGO_MANIFEST_DIR")), contracts.join(format!("{table}.sql")))
            .unwrap();
    }
    fs::write(contracts.join("readings.sql"), CONTRACT).unwrap();
    fs::write(queries.join("meter_peak.sql"), QUERY).unwrap();
    let lines: Vec<String> = (0..3_000)
        .map(|n| {
            let (hour, minute, second) = (n / 360 % 24, n / 6 % 60, n % 6 * 10);
            let kilowatts = if n % 100 == 7 { "-1".to_owned() } else { format!("{}.{:03}", n % 17, n % 1000) };
            format!(
                "{{\"id\":\"r{n}\",\"at\":\"2026-05-01T{hour:02}:{minute:02}:{second:02}Z\",\"meter\":\"m{}\",\"kw\":{kilowatts}}}",
                n % 9
            )
        })
        .collect();
    let input = scratch.path("readings.ndjson");
    fs::write(&input, lines.join("\n")).unwrap();
    let scratch = scratch
        .set("stream.table=readings")
        .set(&format!("lake.contracts={}", contracts.display()))
        .set(&format!("queries.dir={}", queries.display()));
    for through in ["--source", "--replay"] {
        let summary = scratch.summary(&[through, input.to_str().unwrap(), "--allow-late"]);
        assert_eq!(summary["read"], 3_000, "{summary}");
        assert_eq!(summary["rejected"], 30, "{summary}");
    }
    scratch.must(&["audit"]);
    let json = format!(
        "read_json('{}', format='newline_delimited', columns={{id:'VARCHAR', \"at\":'TIMESTAMP', meter:'VARCHAR', kw:'DECIMAL(20,3)'}})",
        input.display()
    );
    let expected = format!(
        "SELECT epoch_us(time_bucket(INTERVAL 15 MINUTE, \"at\")) AS w, meter, count(*) AS n, max(kw) AS peak FROM {json} \
         WHERE kw >= 0 GROUP BY ALL"
    );
    let found = format!("SELECT epoch_us(window_start), meter, readings, peak FROM {}", scratch.delta("meter_peak"));
    assert_eq!(crate::oracle::differences(&expected, &found), 0);
    let rejected = duckdb(&format!("SELECT DISTINCT reason, field FROM {}", scratch.delta("rejects")));
    assert_eq!(serde_json::to_string(&rejected).unwrap(), "[[\"check_failed\",\"kilowatts\"]]");
}
