//! A contract's types in Hive's and Redshift's words.
//!
//! The one law: width, precision and scale are those of the files, because Spectrum compares them with the Parquet type
//!. A timestamp is INT64 microseconds UTC in every file.

use arrow::datatypes::DataType;

use crate::contract::{Column, type_name};
use crate::error::{Error, Result};

/// The longest text Redshift has; a contract's STRING knows no length.
const VARCHAR_BYTES: u32 = 65_535;
/// The longest binary value Redshift has.
const VARBYTE_BYTES: u32 = 1_024_000;

/// As Athena's DDL, Glue's catalog and Hive write it.
pub(super) fn hive(column: &Column) -> Result<String> {
    Ok(match &column.data_type {
        DataType::Utf8 => "string".into(),
        DataType::Binary => "binary".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        _ => return Err(unknown(column)),
    })
}

/// As Redshift writes it, for external tables and its own.
pub(super) fn redshift(column: &Column) -> Result<String> {
    Ok(match &column.data_type {
        DataType::Utf8 => format!("varchar({VARCHAR_BYTES})"),
        DataType::Binary => format!("varbyte({VARBYTE_BYTES})"),
        DataType::Int32 => "integer".into(),
        DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        _ => return hive(column),
    })
}

/// Whether it is a time.
pub(super) fn is_time(column: &Column) -> bool {
    matches!(column.data_type, DataType::Timestamp(..))
}

fn unknown(column: &Column) -> Error {
    let (name, data_type) = (&column.name, type_name(&column.data_type));
    Error::usage(format!("column `{name}` is {data_type}, which not every reader of the lake knows: CAST it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Origin, timestamp_type};

    fn column(data_type: DataType) -> Column {
        let (comment, origin) = (String::new(), Origin::Engine);
        Column { name: "c".into(), data_type, nullable: true, comment, origin, check: None }
    }

    #[test]
    fn every_type_of_a_contract_has_its_word() {
        let cases = [
            (DataType::Utf8, "string", "varchar(65535)"),
            (DataType::Binary, "binary", "varbyte(1024000)"),
            (DataType::Boolean, "boolean", "boolean"),
            (DataType::Int16, "smallint", "smallint"),
            (DataType::Int32, "int", "integer"),
            (DataType::Int64, "bigint", "bigint"),
            (DataType::Float32, "float", "real"),
            (DataType::Float64, "double", "double precision"),
            (DataType::Date32, "date", "date"),
            (timestamp_type(), "timestamp", "timestamp"),
            (DataType::Decimal128(38, 4), "decimal(38,4)", "decimal(38,4)"),
        ];
        for (data_type, in_hive, in_redshift) in cases {
            let column = column(data_type);
            assert_eq!((hive(&column).unwrap().as_str(), redshift(&column).unwrap().as_str()), (in_hive, in_redshift));
            assert_eq!(is_time(&column), in_hive == "timestamp");
        }
        let error = redshift(&column(DataType::UInt64)).unwrap_err().to_string();
        assert!(error.contains("column `c` is UInt64"), "{error}");
    }
}
