//! A corpus of tables, each broken in one way, and one that is not.

use std::collections::BTreeSet;

use arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::array::{TimestampNanosecondArray, UInt64Array};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder, WriterVersion};
use serde_json::{Value, json};

use super::*;
use crate::clock::Clock;

const DAY: &str = "d=2026-01-01";
const FILE: &str = "d=2026-01-01/part-0.parquet";

/// A table as its objects will say.
struct Table {
    name: &'static str,
    url: String,
    protocol: Value,
    columns: Vec<Value>,
    partition_by: Vec<&'static str>,
    configuration: Value,
    application: &'static str,
    /// Lines of the second commit, beside those of `files`.
    lines: Vec<Value>,
    files: Vec<(String, Vec<u8>, Value)>,
    objects: Vec<(String, Vec<u8>)>,
}

fn column(name: &str, data_type: impl Into<Value>, nullable: bool) -> Value {
    json!({"name": name, "type": data_type.into(), "nullable": nullable, "metadata": {}})
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn good_rows() -> RecordBatch {
    let amounts = Decimal128Array::from(vec![1_050, 2_000]).with_precision_and_scale(20, 2).unwrap();
    batch(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
        ("city", Arc::new(StringArray::from(vec!["Aiken", "Utica"]))),
        ("amount", Arc::new(amounts)),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![1, 2]).with_timezone("UTC"))),
    ])
}

fn replaced(name: &str, values: &ArrayRef) -> RecordBatch {
    let rows = good_rows();
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| match field.name() == name {
        true => (field.name().as_str(), Arc::clone(values)),
        false => (field.name().as_str(), Arc::clone(column)),
    });
    batch(columns.collect())
}

fn good_properties() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::SNAPPY).set_writer_version(WriterVersion::PARQUET_1_0)
}

fn parquet(rows: &RecordBatch, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties.build())).unwrap();
    writer.write(rows).unwrap();
    writer.into_inner().unwrap()
}

/// An `add` of a file of two rows, in the partition its path says.
fn add(path: &str, bytes: usize) -> Value {
    let day = path.strip_prefix("d=").and_then(|rest| rest.split_once('/')).map(|(day, _)| day);
    let stats = json!({"numRecords": 2, "minValues": {"id": 1}, "maxValues": {"id": 2}, "nullCount": {"id": 0}});
    json!({"path": path, "partitionValues": {"d": day}, "size": bytes, "modificationTime": 1, "dataChange": true,
           "stats": stats.to_string()})
}

impl Table {
    fn good() -> Self {
        let table = Self {
            name: "payments",
            url: "s3://bucket/payments/".to_owned(),
            protocol: json!({"minReaderVersion": 1, "minWriterVersion": 2}),
            columns: vec![
                column("id", "long", false),
                column("city", "string", true),
                column("amount", "decimal(20,2)", true),
                column("at", "timestamp", true),
                column("d", "date", false),
            ],
            partition_by: vec!["d"],
            configuration: json!({"delta.logRetentionDuration": "interval 7 days"}),
            application: "lakeward",
            lines: Vec::new(),
            files: Vec::new(),
            objects: Vec::new(),
        };
        table.file(FILE, parquet(&good_rows(), good_properties()))
    }

    /// One more file, or another in the place of one.
    fn file(mut self, path: &str, bytes: Vec<u8>) -> Self {
        let add = add(path, bytes.len());
        self.files.retain(|(other, ..)| other != path);
        self.files.push((path.to_owned(), bytes, add));
        self
    }

    fn rows(self, rows: &RecordBatch) -> Self {
        self.file(FILE, parquet(rows, good_properties()))
    }

    fn written(self, properties: WriterPropertiesBuilder) -> Self {
        self.rows_written(&good_rows(), properties)
    }

    fn rows_written(self, rows: &RecordBatch, properties: WriterPropertiesBuilder) -> Self {
        self.file(FILE, parquet(rows, properties))
    }

    /// One more column, before all others; files do not have it.
    fn first(mut self, name: &str) -> Self {
        self.columns.insert(0, column(name, "string", true));
        self
    }

    fn declared(mut self, name: &str, data_type: impl Into<Value>) -> Self {
        let declared = column(name, data_type, true);
        match self.columns.iter_mut().find(|column| column["name"] == name) {
            Some(column) => *column = declared,
            None => self.columns.push(declared),
        }
        self
    }

    fn property(mut self, name: &str, value: &str) -> Self {
        self.configuration[name] = value.into();
        self
    }

    fn object(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.objects.push((path.to_owned(), bytes.into()));
        self
    }

    /// Changes what the log says of the file.
    fn said(mut self, change: impl Fn(&mut Value)) -> Self {
        change(&mut self.files[0].2);
        self
    }

    fn with(mut self, change: impl Fn(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Names files of the table where it lies now.
    fn manifest(self, day: &str, files: &[&str]) -> Self {
        let lines: String = files.iter().map(|file| format!("{}{file}\n", self.url)).collect();
        self.object(&format!("_symlink_format_manifest/{day}/manifest"), lines)
    }

    /// What was written before lies at another place from now on.
    fn moved(mut self, url: &str) -> Self {
        url.clone_into(&mut self.url);
        self
    }

    /// What the writer of the manifests has recorded.
    fn standing(self, version: u64, emptied: &[&str]) -> Self {
        let state = json!({"format": 1, "version": version, "partitions": {}, "emptied": emptied});
        self.object("_symlink_format_manifest/_state.json", state.to_string())
    }

    async fn lint(self) -> Linted {
        self.lint_after(0).await
    }

    /// What is said of it so long after it was written, microseconds.
    async fn lint_after(self, later: Micros) -> Linted {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let put = async |path: &str, bytes: Vec<u8>| {
            store.put(&Path::parse(path).unwrap(), PutPayload::from(bytes)).await.unwrap();
        };
        let schema = json!({"type": "struct", "fields": self.columns}).to_string();
        let first = [
            json!({"protocol": self.protocol}),
            json!({"metaData": {"id": "1", "format": {"provider": "parquet"}, "schemaString": schema,
                                "partitionColumns": self.partition_by, "configuration": self.configuration}}),
        ];
        let adds = self.files.iter().map(|(_, _, add)| json!({"add": add}));
        let txn = json!({"txn": {"appId": self.application, "version": 1}});
        let second: Vec<Value> = adds.chain(self.lines).chain([txn]).collect();
        for (version, lines) in [first.to_vec(), second].into_iter().enumerate() {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            put(&format!("_delta_log/{version:020}.json"), text.into_bytes()).await;
        }
        for (path, bytes) in self.files.into_iter().map(|(path, bytes, _)| (path, bytes)).chain(self.objects) {
            put(&path, bytes).await;
        }
        let url = Url::parse(&self.url).unwrap();
        lint(&Target { name: self.name.to_owned(), url, store }, Clock::System.now() + later).await.unwrap()
    }
}

/// A checkpoint that holds nothing, with or without an index of its pages.
fn checkpoint(statistics: EnabledStatistics) -> Vec<u8> {
    let rows = batch(vec![("version", Arc::new(Int64Array::from(vec![1])))]);
    parquet(
        &rows,
        good_properties()
            .set_statistics_enabled(statistics)
            .set_offset_index_disabled(statistics == EnabledStatistics::None),
    )
}

fn uncompressed() -> Vec<u8> {
    let rows = batch(vec![("version", Arc::new(Int64Array::from(vec![1])))]);
    parquet(&rows, good_properties().set_compression(Compression::UNCOMPRESSED))
}

fn types() -> Vec<(Rule, Table)> {
    let good = Table::good;
    let array = |element: Value| json!({"type": "array", "elementType": element, "containsNull": true});
    vec![
        (Rule::ColumnType, good().declared("seen", "timestamp_ntz")),
        (Rule::ColumnType, good().declared("payload", "variant")),
        (Rule::ColumnType, good().declared("level", "byte")),
        (Rule::SmallDecimal, good().declared("fee", "decimal(10,2)")),
        (Rule::Nested, good().declared("tags", json!({"type": "map", "keyType": "string", "valueType": "string"}))),
        (Rule::Nested, good().declared("deep", array(array("string".into())))),
        (Rule::ColumnName, good().declared("Amount2", "string")),
        (Rule::ColumnName, good().declared("user", "string")),
        (Rule::ColumnName, good().declared("limit", "string")),
        (Rule::ColumnName, good().declared("CITY", "string")),
        (Rule::Protocol, good().with(|t| t.protocol = json!({"minReaderVersion": 1, "minWriterVersion": 4}))),
        (
            Rule::Protocol,
            good().with(|t| {
                t.protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["timestampNtz"],
                                    "writerFeatures": ["timestampNtz"]});
            }),
        ),
        (Rule::Property, good().property("delta.enableDeletionVectors", "true")),
        (Rule::Property, good().property("delta.logRetentionDuration", "interval 1 day")),
        (Rule::Property, good().property("delta.setTransactionRetentionDuration", "interval 1 day")),
        (Rule::Application, good().with(|t| t.application = "job-0b9d6f3e-55f1-4c2b-9a3e-6a1f2f0c7d10")),
    ]
}

fn files() -> Vec<(Rule, Table)> {
    let good = Table::good;
    let unsigned = replaced("id", &(Arc::new(UInt64Array::from(vec![1, u64::MAX])) as ArrayRef));
    let narrow = replaced("id", &(Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef));
    let nanoseconds =
        replaced("at", &(Arc::new(TimestampNanosecondArray::from(vec![1, 2]).with_timezone("UTC")) as ArrayRef));
    let local = replaced("at", &(Arc::new(TimestampMicrosecondArray::from(vec![1, 2])) as ArrayRef));
    let renamed = good_rows();
    let renamed = batch(
        renamed
            .schema()
            .fields()
            .iter()
            .zip(renamed.columns())
            .map(|(f, c)| (if f.name() == "city" { "City" } else { f.name().as_str() }, Arc::clone(c)))
            .collect::<Vec<_>>(),
    );
    let backwards = replaced("id", &(Arc::new(Int64Array::from(vec![2, 1])) as ArrayRef));
    let delta = good_properties()
        .set_column_dictionary_enabled("id".into(), false)
        .set_column_encoding("id".into(), Encoding::DELTA_BINARY_PACKED);
    vec![
        (Rule::Unsigned, good().rows(&unsigned)),
        (Rule::FileColumn, good().rows(&narrow)),
        (Rule::FileColumn, good().rows(&renamed)),
        (Rule::FileColumn, good().with(|t| t.columns[0]["name"] = "number".into())),
        (Rule::FileTime, good().rows(&nanoseconds)),
        (Rule::FileTime, good().rows(&local)),
        (Rule::Compression, good().written(good_properties().set_compression(Compression::LZ4_RAW))),
        (Rule::Encoding, good().written(good_properties().set_writer_version(WriterVersion::PARQUET_2_0))),
        (Rule::Encoding, good().written(delta)),
        (Rule::FileStatistics, good().written(good_properties().set_statistics_enabled(EnabledStatistics::None))),
        (Rule::PageIndex, good().written(good_properties().set_statistics_enabled(EnabledStatistics::Chunk))),
        (
            Rule::RowOrder,
            good()
                .rows_written(&backwards, good_properties().set_max_row_group_row_count(Some(1)))
                .property("lakeward.sortBy", "id, at"),
        ),
        (Rule::FilterColumn, (0..32).fold(good(), |t, n| t.first(&format!("c{n}"))).property("lakeward.sortBy", "id")),
        (Rule::LogStatistics, good().said(|add| add["stats"] = Value::Null)),
        (Rule::LogStatistics, good().said(|add| add["stats"] = r#"{"numRecords":2}"#.into())),
        (
            Rule::DeletionVector,
            good().said(|add| {
                add["deletionVector"] =
                    json!({"storageType": "u", "pathOrInlineDv": "x", "sizeInBytes": 1, "cardinality": 1});
            }),
        ),
        (Rule::WrongFile, good().said(|add| add["size"] = 7.into())),
        (
            Rule::WrongFile,
            good().said(|add| add["stats"] = r#"{"numRecords":3,"minValues":{"id":1},"maxValues":{"id":2}}"#.into()),
        ),
        (Rule::WrongFile, good().file(FILE, b"PAR1 no parquet PAR1".to_vec())),
        (Rule::MissingFile, good().with(|t| t.lines.push(json!({"add": add("d=2026-01-01/part-1.parquet", 9)})))),
    ]
}

fn layouts() -> Vec<(Rule, Table)> {
    let good = Table::good;
    let bytes = || parquet(&good_rows(), good_properties());
    let mut small = good().file("d=2026-01-04/part-0.parquet", bytes());
    for file in 1..10 {
        small = small.file(&format!("{DAY}/part-{file}.parquet"), bytes());
    }
    vec![
        (Rule::TableName, good().with(|t| t.name = "Payments-2026")),
        (Rule::NestedTable, good().object(&format!("{DAY}/_inner/_delta_log/00000000000000000000.json"), "{}")),
        (Rule::PartitionColumn, good().declared("d", "timestamp")),
        (
            Rule::PartitionValue,
            good().file("d=a%20b/part-0.parquet", bytes()).with(|t| {
                t.files[1].2["path"] = "d=a%2520b/part-0.parquet".into();
                t.files[1].2["partitionValues"] = json!({"d": "a b"});
            }),
        ),
        (Rule::PartitionValue, good().said(|add| add["partitionValues"] = json!({"d": null}))),
        (
            Rule::Folder,
            good()
                .file("part-9.parquet", bytes())
                .with(|t| t.files[1].2["partitionValues"] = json!({"d": "2026-01-01"})),
        ),
        (Rule::Junk, good().object("backup/old.csv", "1,2")),
        (Rule::Junk, good().object(&format!("{DAY}/notes.txt"), "?")),
        (Rule::SmallFiles, small),
        (Rule::Log, good().object("_delta_log/00000000000000000003.json", "{}")),
        (Rule::Log, good().object("_delta_log/00000000000000000002.json", "{\"add\":7}")),
        (Rule::CheckpointDue, (2..=102).fold(good(), |t, v| t.object(&format!("_delta_log/{v:020}.json"), "{}"))),
    ]
}

fn followers() -> Vec<(Rule, Table)> {
    let good = Table::good;
    let part = |part: u32| format!("_delta_log/00000000000000000000.checkpoint.{part:010}.0000000002.parquet");
    let last = "_delta_log/_last_checkpoint";
    vec![
        (Rule::Checkpoint, good().object(&part(1), checkpoint(EnabledStatistics::Page))),
        (Rule::Checkpoint, good().object(last, r#"{"version":0,"size":1}"#)),
        (Rule::Checkpoint, good().object(last, "no json")),
        (
            Rule::Checkpoint,
            good()
                .object("_delta_log/00000000000000000000.checkpoint.parquet", checkpoint(EnabledStatistics::Page))
                .object(last, r#"{"version":0,"size":1,"parts":1}"#)
                .object("_delta_log/00000000000000000002.json", ""),
        ),
        (
            Rule::CheckpointCodec,
            good()
                .object("_delta_log/00000000000000000000.checkpoint.parquet", uncompressed())
                .object("_delta_log/00000000000000000002.json", ""),
        ),
        (Rule::ManifestLag, good().manifest(DAY, &[]).standing(0, &[])),
        (Rule::Manifest, good().manifest(DAY, &[])),
        (Rule::Manifest, good().manifest(DAY, &[FILE, FILE])),
        (Rule::Manifest, good().manifest(DAY, &[FILE, "d=2026-01-01/gone.parquet"])),
        (
            Rule::Manifest,
            good().manifest(DAY, &[FILE, "d=2026-01-01/old.parquet"]).object("d=2026-01-01/old.parquet", "PAR1"),
        ),
        (Rule::Manifest, good().manifest("d=2026-01-02", &[])),
        (Rule::Manifest, good().object("_symlink_format_manifest/d=2026-01-01/manifest", "/no/uri\n")),
    ]
}

#[tokio::test]
async fn nothing_is_found_in_a_good_table() {
    let found = Table::good().manifest(DAY, &[FILE]).lint().await;
    assert_eq!(found.findings, []);
    assert_eq!((found.version, found.files, found.rows), (1, 1, 2));
    // What is hidden, and files that vacuum has not taken yet, are nobody's business here.
    let more = Table::good()
        .object("_temporary/x", "1")
        .object(&format!("{DAY}/.crc"), "1")
        .object("d=2026-01-01/orphan.parquet", "PAR1");
    assert_eq!(more.lint().await.findings, []);
}

/// Trino has failed on checkpoints that have no range of a column's values, and no place of its pages.
#[tokio::test]
async fn a_checkpoint_needs_an_index_of_each_column() {
    for (statistics, is_indexed) in
        [(EnabledStatistics::Page, true), (EnabledStatistics::Chunk, false), (EnabledStatistics::None, false)]
    {
        let path = "_delta_log/00000000000000000000.checkpoint.parquet";
        let linted = Table::good().object(path, checkpoint(statistics)).lint().await;
        let found = linted.findings.iter().filter(|finding| finding.rule == Rule::Checkpoint);
        let said: Vec<_> = found.map(|finding| (finding.place.as_str(), finding.what.as_str())).collect();
        let without = (path, "its column `version` has no page index");
        assert_eq!(said, if is_indexed { vec![] } else { vec![without] }, "{statistics:?}");
    }
}

#[tokio::test]
async fn each_broken_table_is_named_by_its_rule() {
    let mut seen = BTreeSet::new();
    for (number, (rule, table)) in types().into_iter().chain(files()).chain(layouts()).chain(followers()).enumerate() {
        let found = table.lint().await;
        let rules: BTreeSet<Rule> = found.findings.iter().map(|finding| finding.rule).collect();
        assert!(rules.contains(&rule), "table {number} breaks {rule}, found {:?}", found.findings);
        assert!(rules.len() <= 2, "table {number} breaks {rule} only, found {:?}", found.findings);
        seen.insert(rule);
    }
    // A gigabyte is not written for a test; `files` has one of its own.
    seen.insert(Rule::FileSize);
    assert_eq!(seen, Rule::ALL.iter().copied().collect(), "a rule without a table that breaks it");
}

/// A manifest is followed to wherever it leads: to a table of before, if the lake was copied.
#[tokio::test]
async fn manifests_lead_to_the_table_they_lie_in() {
    const HERE: &str = "s3://bucket/lake/payments/";
    let written_at = |url: &str| Table::good().moved(url).manifest(DAY, &[FILE]);
    for url in [HERE, "s3://bucket/", "file:///srv/a%20lake/payments/"] {
        assert_eq!(written_at(url).lint().await.findings, []);
    }
    for (written, now) in [
        ("s3://somebody-elses-bucket/lake/payments/", HERE),
        ("s3a://bucket/lake/payments/", HERE),
        ("s3://bucket/payments/", HERE),
        ("s3://bucket/lake/old/payments/", HERE),
        ("file:///srv/lake/payments/", HERE),
        (HERE, "file:///srv/lake/payments/"),
        ("file:///srv/lake/payments/", "file:///srv/copy/payments/"),
    ] {
        let found = written_at(written).moved(now).lint().await.findings;
        let what = format!("manifests name files below `{written}`; the table lies at `{now}`");
        assert_eq!(found, [Finding { rule: Rule::Manifest, place: manifest::MANIFESTS.to_owned(), what }]);
    }
    // Being behind is no excuse.
    let elsewhere = replaced_file().moved("s3://other/payments/").manifest(DAY, &[FILE]).standing(1, &[]);
    assert!(elsewhere.moved(HERE).lint().await.is_broken());
}

/// Version 1 added the file; version 2 takes it out and adds another.
fn replaced_file() -> Table {
    let other = format!("{DAY}/part-1.parquet");
    let bytes = parquet(&good_rows(), good_properties());
    let commit = [json!({"remove": {"path": FILE, "dataChange": true}}), json!({"add": add(&other, bytes.len())})];
    let text: String = commit.iter().map(|line| format!("{line}\n")).collect();
    Table::good().object(&other, bytes).object("_delta_log/00000000000000000002.json", text)
}

#[tokio::test]
async fn a_manifest_a_moment_behind_is_a_note_and_a_stale_one_an_error() {
    const HOUR: Micros = 3_600_000_000;
    let rules = |linted: Linted| linted.findings.iter().map(|finding| finding.rule).collect::<BTreeSet<_>>();
    let both = |rule: Rule| BTreeSet::from([rule]);
    let behind = || replaced_file().manifest(DAY, &[FILE]);
    let linted = behind().standing(1, &[]).lint().await;
    assert_eq!((linted.is_broken(), rules(linted)), (false, both(Rule::ManifestLag)));
    assert_eq!(rules(behind().standing(0, &[]).lint().await), both(Rule::ManifestLag));
    // Nobody has recorded that it is behind; it is older than what is recorded; nobody has brought it up since.
    assert_eq!(rules(behind().lint().await), both(Rule::Manifest));
    assert_eq!(rules(behind().standing(2, &[]).lint().await), both(Rule::Manifest));
    assert_eq!(rules(behind().standing(1, &[]).lint_after(HOUR).await), both(Rule::Manifest));
    // A manifest of no version at all.
    let odd = replaced_file().manifest(DAY, &[FILE, "d=2026-01-01/part-1.parquet"]).standing(0, &[]);
    assert_eq!(rules(odd.lint().await), both(Rule::Manifest));
    // A new date has none yet; an emptied one has its own as long as a catalog leads there.
    let none = replaced_file().manifest("d=2026-01-02", &[]).standing(0, &["d=2026-01-02"]);
    assert_eq!(rules(none.lint().await), BTreeSet::from([Rule::Manifest, Rule::ManifestLag]));
    let text = format!("{}\n", json!({"remove": {"path": FILE, "dataChange": true}}));
    let emptied = || Table::good().manifest(DAY, &[FILE]).object("_delta_log/00000000000000000002.json", text.clone());
    assert_eq!(rules(emptied().standing(2, &[DAY]).lint().await), both(Rule::ManifestLag));
    assert_eq!(rules(emptied().standing(2, &[]).lint().await), both(Rule::Manifest));
    assert_eq!(
        rules(replaced_file().manifest(DAY, &["d=2026-01-01/part-1.parquet"]).standing(0, &[]).lint().await),
        BTreeSet::new()
    );
}

/// A date whose windows may be open is in many small files, and nothing is wrong with that.
#[tokio::test]
async fn small_files_are_counted_where_nothing_is_written_any_more() {
    for (newest, is_found) in [("2026-01-01", false), ("2026-01-03", false), ("2026-01-04", true)] {
        let bytes = || parquet(&good_rows(), good_properties());
        let day = |day: &str, table: Table| {
            (0..10).fold(table, |table, file| table.file(&format!("d={day}/part-{file}.parquet"), bytes()))
        };
        let found = day("2026-01-01", day(newest, Table::good())).lint().await;
        let rules: Vec<Rule> = found.findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, if is_found { vec![Rule::SmallFiles] } else { Vec::new() }, "{newest}");
    }
}

#[tokio::test]
async fn a_folder_without_a_log_is_no_table() {
    let (name, url) = ("payments".to_owned(), Url::parse("s3://bucket/payments/").unwrap());
    let missing = lint(&Target { name, url, store: Arc::new(InMemory::new()) }, 0).await.unwrap_err();
    assert!(missing.to_string().contains("no Delta table"), "{missing}");
}
