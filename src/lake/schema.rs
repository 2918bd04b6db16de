//! What a contract means in Delta, and back: types, comments, partitioning.
//!
//! The one law: reader version 1, writer version 2, no table feature, and only the types listed here, because that is
//! what Athena, Spectrum and Glue all read. Nothing here changes a table (see `evolve`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake::kernel::{
    DataType as DeltaType, DecimalType, Metadata, MetadataValue, PrimitiveType, Protocol, StructField,
};

use crate::contract::{TableContract, timestamp_type};
use crate::error::{Context, Error, Result};

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
    /// Indices of columns by whose single values rows are looked for.
    pub(super) bloom: Vec<usize>,
    /// Rows of a row group at most, if fewer than fit its bytes.
    pub(super) row_group_rows: Option<usize>,
}

impl Layout {
    /// The layout a contract declares.
    pub(super) fn of_contract(contract: &TableContract) -> Result<Self> {
        let schema = contract.schema();
        let index = |column: &str| {
            schema.index_of(column).map_err(|_| {
                Error::usage(format!("table `{}`: no column `{column}` to partition, sort or look by", contract.name))
            })
        };
        let unique = contract.stream.iter().map(|stream| stream.identity.as_ref());
        Self {
            partition: index(&contract.partition_by)?,
            sort: contract.sort_by.iter().map(|column| index(column)).collect::<Result<_>>()?,
            unique: unique.map(index).collect::<Result<_>>()?,
            bloom: contract.bloom_filters.iter().map(|column| index(column)).collect::<Result<_>>()?,
            row_group_rows: contract.row_group_rows,
            schema: Arc::clone(&schema),
        }
        .checked(&contract.name)
    }

    /// The layout of a table in the lake; what only a contract knows (identity, Bloom filters, row groups, the order of a
    /// table that another wrote) is left empty.
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
        Self { schema, partition, sort, unique: Vec::new(), bloom: Vec::new(), row_group_rows: None }.checked(name)
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
}
