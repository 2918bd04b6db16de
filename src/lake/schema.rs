//! What a contract means in Delta, and back: types, comments, partitioning; and the refusal of a table that differs.
//!
//! The one law: reader version 1, writer version 2, no table feature, and only the types listed here, because that is
//! what Athena, Spectrum and Glue all read. Nothing here changes a table (see `evolve`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::sql::sqlparser::tokenizer::Span;
use deltalake::kernel::{
    DataType as DeltaType, DecimalType, Metadata, MetadataValue, PrimitiveType, Protocol, StructField,
};

use crate::contract::{TableContract, timestamp_type, type_name};
use crate::error::{Context, Error, Refusal, Result};

/// Highest protocol versions Athena, Spectrum and Glue all read (reader, writer).
const PROTOCOL_MAX: (i32, i32) = (1, 2);

/// With this property Delta forgets which epochs were published; epochs would then be published twice.
const TRANSACTION_RETENTION: &str = "delta.setTransactionRetentionDuration";

/// The property that keeps the contract's order: the names of its columns, separated by commas.
pub(super) const SORT_BY: &str = "lakeward.sortBy";

/// How rows of a table lie in files.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    /// Every column in declared order, the partition column included.
    pub(super) schema: SchemaRef,
    /// Index of the partition column, of type Date32.
    pub(super) partition: usize,
    /// Indices of the columns rows are sorted by inside a file.
    pub(super) sort: Vec<usize>,
    /// Indices of columns in which every row has its own value: a dictionary would be the column twice.
    pub(super) unique: Vec<usize>,
}

impl Layout {
    /// The layout a contract declares.
    pub(super) fn of_contract(contract: &TableContract) -> Result<Self> {
        let schema = contract.schema();
        let index = |column: &str| {
            schema.index_of(column).map_err(|_| {
                Error::usage(format!("table `{}`: no column `{column}` to partition or sort by", contract.name))
            })
        };
        let unique = contract.stream.iter().map(|stream| stream.identity.as_ref());
        Self {
            partition: index(&contract.partition_by)?,
            sort: contract.sort_by.iter().map(|column| index(column)).collect::<Result<_>>()?,
            unique: unique.map(index).collect::<Result<_>>()?,
            schema: Arc::clone(&schema),
        }
        .checked(&contract.name)
    }

    /// The layout of a table in the lake; what only a contract knows (identity, the order of a table that another wrote) is
    /// left empty.
    pub(super) fn of_table(name: &str, metadata: &Metadata) -> Result<Self> {
        let schema =
            metadata.parse_schema().context(|| format!("table `{name}`: its log holds an unreadable schema"))?;
        let fields = schema.fields().map(|field| {
            let data_type = arrow_type(name, field.name(), field.data_type())?;
            Ok(Field::new(field.name(), data_type, field.is_nullable()))
        });
        let schema = Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?));
        let [column] = metadata.partition_columns() else {
            let found = metadata.partition_columns().join("`, `");
            return Err(Error::usage(format!(
                "table `{name}` is partitioned by `{found}`; one DATE column is expected"
            )));
        };
        let partition = schema
            .index_of(column)
            .map_err(|_| Error::broken(format!("table `{name}`: partition column `{column}` is not in its schema")))?;
        let order = metadata.configuration().get(SORT_BY).map_or("", String::as_str).split(", ");
        let sort = order.filter_map(|column| schema.index_of(column).ok()).collect();
        Self { schema, partition, sort, unique: Vec::new() }.checked(name)
    }

    /// Name of the partition column.
    pub(super) fn partition_name(&self) -> &str {
        self.schema.field(self.partition).name()
    }

    /// What [`SORT_BY`] says of it.
    pub(super) fn sort_by(&self) -> String {
        self.sort.iter().map(|&column| self.schema.field(column).name().as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Indices of the columns that are in the data files: all but the partition column, whose value is the folder.
    pub(super) fn file_columns(&self) -> Vec<usize> {
        (0..self.schema.fields().len()).filter(|&i| i != self.partition).collect()
    }

    /// Schema of the data files.
    pub(super) fn file_schema(&self) -> Result<SchemaRef> {
        let projected = self.schema.project(&self.file_columns());
        Ok(Arc::new(projected.context(|| "cannot leave the partition column out of a schema")?))
    }

    fn checked(self, name: &str) -> Result<Self> {
        let field = self.schema.field(self.partition);
        if field.data_type() == &DataType::Date32 {
            return Ok(self);
        }
        let (column, data_type) = (field.name(), field.data_type());
        Err(Error::usage(format!("table `{name}`: partition column `{column}` is {data_type}; it has to be a DATE")))
    }
}

/// The Delta columns of a contract, comments included.
pub(super) fn delta_columns(contract: &TableContract) -> Result<Vec<StructField>> {
    let columns = contract.columns.iter().map(|column| {
        let data_type = delta_type(&contract.name, &column.name, &column.data_type)?;
        let field = StructField::new(column.name.as_ref(), data_type, column.nullable);
        if column.comment.is_empty() {
            return Ok(field);
        }
        Ok(field.with_metadata([("comment", MetadataValue::String(column.comment.clone()))]))
    });
    columns.collect()
}

/// Refuses a table that some reader of the lake could not read, or on which exactly once would not hold.
pub(super) fn check_readable(name: &str, protocol: &Protocol, metadata: &Metadata) -> Result<()> {
    let found = (protocol.min_reader_version(), protocol.min_writer_version());
    if found.0 > PROTOCOL_MAX.0 || found.1 > PROTOCOL_MAX.1 {
        return Err(Error::usage(format!(
            "table `{name}` has Delta protocol {}/{}; Lakeward writes {}/{} so that every reader of the lake can read it; \
             copy its rows into a new table",
            found.0, found.1, PROTOCOL_MAX.0, PROTOCOL_MAX.1
        )));
    }
    if metadata.configuration().contains_key(TRANSACTION_RETENTION) {
        return Err(Error::usage(format!(
            "table `{name}` has the property `{TRANSACTION_RETENTION}`: Delta would forget published epochs and rows could \
             come twice; remove it with ALTER TABLE … UNSET TBLPROPERTIES"
        )));
    }
    Ok(())
}

/// How a table can follow its contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evolution {
    /// Nullable columns it gets.
    pub(super) added: Vec<String>,
    /// Columns that may be NULL from now on.
    pub(super) relaxed: Vec<String>,
}

impl Evolution {
    /// Whether the columns stay as they are.
    pub(super) fn is_none(&self) -> bool {
        self.added.is_empty() && self.relaxed.is_empty()
    }

    /// What makes a table as found one as declared, if added columns and dropped NOT NULLs do.
    pub(super) fn between(declared: &Layout, found: &Layout) -> Option<Self> {
        if declared.partition_name() != found.partition_name() {
            return None;
        }
        let (mut added, mut relaxed) = (Vec::new(), Vec::new());
        let mut left = found.schema.fields().iter();
        for field in declared.schema.fields() {
            match found.schema.field_with_name(field.name()) {
                Err(_) if field.is_nullable() => added.push(field.name().clone()),
                Err(_) => return None,
                Ok(there) => {
                    let in_order = left.next().is_some_and(|next| next.name() == field.name());
                    if !in_order || there.data_type() != field.data_type() {
                        return None;
                    }
                    match (field.is_nullable(), there.is_nullable()) {
                        (true, false) => relaxed.push(field.name().clone()),
                        (false, true) => return None,
                        _ => {}
                    }
                }
            }
        }
        left.next().is_none().then_some(Self { added, relaxed })
    }
}

/// Refuses a table whose columns or partitioning differ from what is declared: names every difference, and draws both
/// sides column by column.
pub(super) fn check_same(name: &str, declared: &Layout, found: &Layout) -> Result<()> {
    let mut differences = Vec::new();
    for field in declared.schema.fields() {
        let (column, data_type) = (field.name(), type_name(field.data_type()));
        match found.schema.field_with_name(column) {
            Err(_) => differences.push(format!("column `{column}` {data_type} is missing in the lake")),
            Ok(there) if there.data_type() != field.data_type() => {
                let there = type_name(there.data_type());
                differences.push(format!("column `{column}` is declared {data_type}, but {there} in the lake"));
            }
            Ok(there) if there.is_nullable() != field.is_nullable() => {
                let null = |nullable| if nullable { "nullable" } else { "NOT NULL" };
                let (declared, found) = (null(field.is_nullable()), null(there.is_nullable()));
                differences.push(format!("column `{column}` is declared {declared}, but {found} in the lake"));
            }
            Ok(_) => {}
        }
    }
    for field in found.schema.fields() {
        if declared.schema.field_with_name(field.name()).is_err() {
            differences.push(format!("column `{}` {} is only in the lake", field.name(), type_name(field.data_type())));
        }
    }
    if declared.partition_name() != found.partition_name() {
        let (declared, found) = (declared.partition_name(), found.partition_name());
        differences.push(format!("it is declared to be partitioned by `{declared}`, but is by `{found}` in the lake"));
    }
    if differences.is_empty() && declared.schema.fields() != found.schema.fields() {
        let order =
            |layout: &Layout| layout.schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(", ");
        let (declared, found) = (order(declared), order(found));
        differences.push(format!("its columns are declared in the order {declared}, but are in the lake as {found}"));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!("table `{name}` differs from its contract: {}", differences.join("; "));
    let refusal = Refusal::new(Span::empty(), message)
        .help("put the contract back, or use another `lake.url`")
        .note("a query's table takes in added columns that may be NULL and drops NOT NULL, nothing else")
        .note(side_by_side(declared, found));
    Err(Error::Usage(refusal.into()))
}

/// Contract and lake, a line a column in the contract's order, `!` where they differ.
fn side_by_side(declared: &Layout, found: &Layout) -> String {
    let shown = |layout: &Layout, column: &str| match layout.schema.field_with_name(column) {
        Err(_) => "-".to_owned(),
        Ok(field) => format!("{}{}", type_name(field.data_type()), if field.is_nullable() { "" } else { " NOT NULL" }),
    };
    let only_found = found.schema.fields().iter().filter(|f| declared.schema.field_with_name(f.name()).is_err());
    let columns = declared.schema.fields().iter().chain(only_found).map(|field| field.name().as_str());
    let mut rows: Vec<[String; 3]> =
        columns.map(|column| [column.to_owned(), shown(declared, column), shown(found, column)]).collect();
    let sort = |layout: &Layout| if layout.sort.is_empty() { "-".to_owned() } else { layout.sort_by() };
    rows.push(["(partition by)".to_owned(), declared.partition_name().into(), found.partition_name().into()]);
    rows.push(["(sort by)".to_owned(), sort(declared), sort(found)]);
    let head = ["column", "contract", "lake"].map(str::to_owned);
    let width = |column: usize| {
        rows.iter().chain(std::iter::once(&head)).map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let (names, sides) = (width(0), width(1));
    let line = |row: &[String; 3]| {
        let mark = if row[1] == row[2] || *row == head { ' ' } else { '!' };
        format!("{mark} {:<names$}  {:<sides$}  {}", row[0], row[1], row[2]).trim_end().to_owned()
    };
    std::iter::once(&head).chain(&rows).map(line).collect::<Vec<_>>().join("\n")
}

fn delta_type(table: &str, column: &str, data_type: &DataType) -> Result<DeltaType> {
    Ok(DeltaType::Primitive(match data_type {
        DataType::Utf8 => PrimitiveType::String,
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Int16 => PrimitiveType::Short,
        DataType::Int32 => PrimitiveType::Integer,
        DataType::Int64 => PrimitiveType::Long,
        DataType::Float32 => PrimitiveType::Float,
        DataType::Float64 => PrimitiveType::Double,
        DataType::Date32 => PrimitiveType::Date,
        DataType::Binary => PrimitiveType::Binary,
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if zone.as_ref() == "UTC" => PrimitiveType::Timestamp,
        DataType::Decimal128(precision, scale) => {
            let scale = u8::try_from(*scale).map_err(|_| unsupported(table, column, data_type))?;
            let decimal = DecimalType::try_new(*precision, scale).map_err(|_| unsupported(table, column, data_type))?;
            PrimitiveType::Decimal(decimal)
        }
        _ => return Err(unsupported(table, column, data_type)),
    }))
}

fn arrow_type(table: &str, column: &str, data_type: &DeltaType) -> Result<DataType> {
    let DeltaType::Primitive(primitive) = data_type else { return Err(unsupported(table, column, data_type)) };
    Ok(match primitive {
        PrimitiveType::String => DataType::Utf8,
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Short => DataType::Int16,
        PrimitiveType::Integer => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Binary => DataType::Binary,
        PrimitiveType::Timestamp => timestamp_type(),
        PrimitiveType::Decimal(decimal) => {
            let scale = i8::try_from(decimal.scale()).map_err(|_| unsupported(table, column, data_type))?;
            DataType::Decimal128(decimal.precision(), scale)
        }
        _ => return Err(unsupported(table, column, data_type)),
    })
}

fn unsupported(table: &str, column: &str, data_type: &impl std::fmt::Display) -> Error {
    Error::usage(format!(
        "table `{table}`: column `{column}` has type {data_type}, which not every reader of the lake reads"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn every_type_of_a_contract_survives_the_way_to_delta_and_back() {
        for data_type in [
            DataType::Utf8,
            DataType::Boolean,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::Float32,
            DataType::Float64,
            DataType::Date32,
            DataType::Binary,
            timestamp_type(),
            DataType::Decimal128(30, 2),
        ] {
            let delta = delta_type("t", "c", &data_type).unwrap();
            assert_eq!(arrow_type("t", "c", &delta).unwrap(), data_type);
        }
    }

    #[test]
    fn types_some_reader_cannot_read_are_refused_by_name() {
        for data_type in [
            DataType::UInt64,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            DataType::Utf8View,
            DataType::Decimal128(10, -2),
        ] {
            let error = delta_type("t", "the_column", &data_type).unwrap_err();
            assert!(matches!(&error, Error::Usage(m) if m.contains("`the_column`")), "{error}");
        }
    }

    #[test]
    fn a_difference_is_named_column_by_column() {
        let declared = Layout::of_contract(&testing::contract("payments")).unwrap();
        check_same("payments", &declared, &declared).unwrap();
        let mut contract = testing::contract("payments");
        contract.columns.retain(|column| column.name.as_ref() != "card");
        contract.columns.iter_mut().find(|c| c.name.as_ref() == "amount").unwrap().data_type = DataType::Int64;
        let found = Layout::of_contract(&contract).unwrap();
        let error = check_same("payments", &declared, &found).unwrap_err().to_string();
        assert!(error.contains("column `card` STRING is missing in the lake"), "{error}");
        assert!(error.contains("column `amount` is declared DECIMAL(20,2), but BIGINT in the lake"), "{error}");
        let error = check_same("payments", &found, &declared).unwrap_err().to_string();
        assert!(error.contains("column `card` STRING is only in the lake"), "{error}");
    }

    #[test]
    fn both_sides_are_drawn() {
        let mut contract = testing::contract("payments");
        contract.columns.truncate(5);
        contract.sort_by = vec!["card".into()];
        let declared = Layout::of_contract(&contract).unwrap();
        contract.columns[4].nullable = true;
        contract.columns.remove(2);
        contract.stream = None;
        let found = Layout::of_contract(&contract).unwrap();
        let drawn = "  column          contract                lake\n  \
            event_time      TIMESTAMP NOT NULL      TIMESTAMP NOT NULL\n  \
            event_date      DATE NOT NULL           DATE NOT NULL\n\
            ! payment_id      STRING NOT NULL         -\n  \
            card            STRING NOT NULL         STRING NOT NULL\n\
            ! amount          DECIMAL(20,2) NOT NULL  DECIMAL(20,2)\n  \
            (partition by)  event_date              event_date\n  \
            (sort by)       card                    card";
        assert_eq!(side_by_side(&declared, &found), drawn);
    }

    #[test]
    fn another_order_of_columns_is_a_difference() {
        let declared = Layout::of_contract(&testing::contract("payments")).unwrap();
        let mut contract = testing::contract("payments");
        contract.columns.reverse();
        let found = Layout::of_contract(&contract).unwrap();
        let error = check_same("payments", &declared, &found).unwrap_err().to_string();
        assert!(error.contains("in the order"), "{error}");
    }
}
