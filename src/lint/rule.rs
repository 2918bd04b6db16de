//! The rules a Delta table has to keep so that Athena, Redshift Spectrum and Glue crawlers read the same rows.
//!
//! The one law: a rule says what it is, what happens to readers where it is broken, and what mends it; nothing here looks at
//! a table.

use serde::{Serialize, Serializer};

/// How bad a broken rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Some reader fails, or answers wrongly.
    Error,
    /// Slow, dear, or not proven.
    Warning,
    /// Under way: nothing is to be mended.
    Note,
}

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident = $name:literal, $severity:ident, $consequence:literal, $remedy:literal;)*) => {
        /// A rule of the lake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[$doc])* $rule,)*
        }

        impl Rule {
            /// Every rule, in the order reports have.
            pub const ALL: &[Self] = &[$(Self::$rule),*];

            /// The rule's name in reports.
            pub fn name(self) -> &'static str {
                match self { $(Self::$rule => $name,)* }
            }

            /// How bad it is to break it.
            pub fn severity(self) -> Severity {
                match self { $(Self::$rule => Severity::$severity,)* }
            }

            /// What readers do with a table that breaks it.
            pub fn consequence(self) -> &'static str {
                match self { $(Self::$rule => $consequence,)* }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$rule => $remedy,)* }
            }
        }
    };
}

rules! {
    /// The log can be replayed.
    Log = "log", Error,
        "Athena cannot open the table; a manifest made from it is wrong",
        "restore the objects of `_delta_log` from the bucket's versions, or copy the table's rows into a new one";
    /// Reader version 1, writer version 2, no table feature.
    Protocol = "protocol", Error,
        "Athena refuses tables with features it does not know; Spectrum reads the files as if there were none",
        "copy the rows into a table of protocol 1/2: features cannot be taken back from a log that had them";
    /// No row is deleted by a side file.
    DeletionVector = "deletion-vector", Error,
        "Spectrum and every reader of plain Parquet show the deleted rows again",
        "rewrite the file (`REORG TABLE … APPLY (PURGE)`), and set `delta.enableDeletionVectors` to false";
    /// Types that every reader has.
    ColumnType = "column-type", Error,
        "Spectrum has no such column type, and Athena fails or shifts the values",
        "add a column of another type: signed integers, TIMESTAMP in UTC, DECIMAL, STRING; types of columns cannot change";
    /// Flat columns, or arrays of scalars and of structs.
    Nested = "nested-column", Error,
        "Spectrum reads it only with its own syntax for nested columns, and views over it fail",
        "flatten it into columns of its own, or into a STRING of JSON";
    /// Decimals that are stored as bytes.
    SmallDecimal = "small-decimal", Warning,
        "a DECIMAL of up to 18 digits may be stored as INT64, which old Hive readers refuse; Spectrum is not proven to read it",
        "declare 19 digits or more, DECIMAL(20,2) for money";
    /// Names that need no quotes and are unique.
    ColumnName = "column-name", Error,
        "Athena and Glue fold names to lower case, so that two may become one; reserved words fail in Redshift",
        "rename the column to `[a-z][a-z0-9_]*`, not a reserved word of SQL, by way of a new table";
    /// Folder names that Glue takes for tables.
    TableName = "table-name", Error,
        "a Glue crawler replaces what it does not allow in the name, so that queries find no table",
        "move the table to a folder of lower-case letters, digits and `_`";
    /// One table does not hold another.
    NestedTable = "nested-table", Error,
        "a crawler takes the inner table's folders for partitions of the outer one",
        "move the inner table beside the outer one";
    /// Partitioned by what every catalogue can name.
    PartitionColumn = "partition-column", Warning,
        "partitions of this kind cannot be registered or pruned alike in Athena and Spectrum",
        "partition by one DATE column derived from the event time";
    /// Values that stand in a path as they are.
    PartitionValue = "partition-value", Error,
        "object keys hold such values percent-encoded, and catalogues look for a partition that is not there",
        "partition by values of letters, digits, `_`, `.` and `-`, never NULL";
    /// Every file lies in its partition's folder.
    Folder = "folder", Error,
        "Spectrum and crawlers go by folders: rows show up under another partition, or not at all",
        "rewrite the file into its partition's folder; never clone tables shallowly, never randomise prefixes";
    /// Nothing else lies beside the partitions.
    Junk = "junk", Error,
        "a crawler takes it for a partition or a table of its own, and may change the schema",
        "move it out of the table's folder, or let its name begin with `_`";
    /// What the log names is there.
    MissingFile = "missing-file", Error,
        "queries fail in Athena; in Spectrum they fail, or count too few rows if the manifest is older",
        "restore the object from the bucket's versions; then see that vacuum keeps files as long as readers need them (Lakeward's does)";
    /// Size and rows are as the log says.
    WrongFile = "wrong-file", Error,
        "readers seek the footer by the size in the log: queries fail, or answer from statistics that are not so",
        "restore the object; data objects are never overwritten";
    /// The file's columns are those the table declares.
    FileColumn = "file-column", Error,
        "Spectrum fails with an incompatible Parquet schema; Athena shows NULL or fails",
        "rewrite the file with the declared type; a new type is a new column";
    /// Times that all readers read alike.
    FileTime = "file-time", Error,
        "nanoseconds are not read; times without UTC shift by the reader's zone",
        "rewrite the file with TIMESTAMP_MICROS adjusted to UTC";
    /// No unsigned integers.
    Unsigned = "unsigned", Error,
        "readers take the bits for signed ones: large values turn negative, or the file is refused",
        "cast to the next wider signed type before writing, `u64` to DECIMAL(20,0)";
    /// Codecs that every reader has.
    Compression = "compression", Error,
        "Spectrum documents gzip and snappy only",
        "rewrite the file with SNAPPY, and set it for compaction, too, which may default to ZSTD";
    /// Pages as Parquet's first version has them.
    Encoding = "encoding", Error,
        "older readers, Redshift's among them, refuse pages of version 2 and delta encodings",
        "rewrite the file with writer version 1.0";
    /// Row groups know the range of their values.
    FileStatistics = "file-statistics", Warning,
        "no row group is ever left out: queries read, and Athena bills, every byte of the column",
        "rewrite the file with statistics switched on";
    /// Pages, too, know the range of their values.
    PageIndex = "page-index", Warning,
        "no page is ever left out: a query of a few rows reads all of them in the column, and is billed for them",
        "rewrite the file with statistics of pages, by a writer that keeps page indexes";
    /// Rows lie in the order the table says.
    RowOrder = "row-order", Warning,
        "pages and row groups hold values from everywhere, so that few can be left out of a query",
        "rewrite the file in order (`lakeward lake compact` does with small files); rows older than a change of the order stay as they lie";
    /// The log knows rows and ranges.
    LogStatistics = "log-statistics", Warning,
        "Athena opens every file of the partition to find out that most hold nothing",
        "rewrite the file by a writer that keeps statistics in the log";
    /// What queries filter by is among the columns the log knows ranges of.
    FilterColumn = "filter-column", Warning,
        "no file is left out of queries by this column: Athena opens each one to find out that it holds nothing",
        "let the column stand before others, in a new table, or raise `delta.dataSkippingNumIndexedCols` for a writer that follows it";
    /// Files and row groups of a size that is read well.
    FileSize = "file-size", Warning,
        "one worker reads it alone, and takes as long and as much memory",
        "write files of 128 to 256 MB with row groups of up to 128 MB";
    /// Closed partitions are compacted.
    SmallFiles = "small-files", Warning,
        "each file costs a request or two and a footer: queries wait for S3, not for bytes",
        "compact with the writer that owns the table (Lakeward's job does, and `lakeward lake compact`), or write fewer, larger files";
    /// The log can be read from a young checkpoint.
    CheckpointDue = "checkpoint-due", Warning,
        "each query reads every commit since the last checkpoint before it begins",
        "let the table's writer write one (Lakeward's job does, every `commit.checkpoint_every` versions; `lakeward lake checkpoint` does now)";
    /// Checkpoints every reader reads.
    Checkpoint = "checkpoint", Error,
        "Trino, and so Athena, has failed on checkpoints in parts, of version 2, or without an index for each column",
        "write a checkpoint in one file; until then remove `_last_checkpoint`, if all commits are still there";
    /// Checkpoints are compressed, by a codec that every reader has.
    CheckpointCodec = "checkpoint-codec", Warning,
        "every query loads the checkpoint before it begins: uncompressed it is several times as long, and of codecs only snappy and gzip are proven",
        "let the table's writer write checkpoints with snappy (Lakeward's does: `lakeward lake checkpoint`)";
    /// Properties that do not break readers later.
    Property = "property", Warning,
        "readers that stand still find their files gone, or writers forget what they have written",
        "set the property back (ALTER TABLE … SET TBLPROPERTIES)";
    /// Applications that name themselves alike after a restart.
    Application = "application", Warning,
        "after a restart the writer does not know its own commits again, and may write rows twice",
        "let the application's id be the name of the job, without a run's id";
    /// Manifests say what the log says.
    Manifest = "manifest", Error,
        "Spectrum reads what the manifest names: removed rows, too few, another table's, or a failing query",
        "write the manifests again with the tool that made them (`lakeward lake manifest`; Delta's GENERATE); vacuum only after them";
    /// Manifests are a moment behind the log, as their state says.
    ManifestLag = "manifest-lag", Note,
        "Spectrum shows the partition as it was a moment ago, every row once",
        "nothing while a job runs, which writes them after each commit; on a lake at rest `lakeward lake manifest` does";
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Severity {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_has_a_name_of_its_own_and_says_what_and_how() {
        let names: BTreeSet<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        for rule in Rule::ALL {
            assert!(rule.consequence().len() > 30 && rule.remedy().len() > 30, "{rule}");
            assert!(rule.name().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{rule}");
        }
    }
}
