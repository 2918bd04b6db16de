//! The SQL function behind `TUMBLE`: the start of the window a time falls into.
//!
//! The one law: it computes [`WindowSpec::slice_of`] and nothing else, for every time, early or late in history.
//! (`date_bin` counts in nanoseconds and answers NULL outside the years 1677–2262, so that one strange record would make
//! a window that never closes.)

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::spec::WindowSpec;
use crate::contract::timestamp_type;

/// The function's name in SQL: `tumble_start(time, size, offset)`, size and offset as literal microseconds.
pub(super) const TUMBLE_START: &str = "tumble_start";

/// The function, to be registered in a session.
pub(super) fn tumble_start() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(TumbleStart {
        signature: Signature::exact(vec![timestamp_type(), DataType::Int64, DataType::Int64], Volatility::Immutable),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TumbleStart {
    signature: Signature,
}

impl ScalarUDFImpl for TumbleStart {
    fn name(&self) -> &str {
        TUMBLE_START
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp_type())
    }

    /// A window is NULL only where the time is: event times are NOT NULL, so their windows are.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.first().is_none_or(|time| time.is_nullable());
        Ok(Arc::new(Field::new(self.name(), timestamp_type(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [
            time,
            ColumnarValue::Scalar(ScalarValue::Int64(Some(size))),
            ColumnarValue::Scalar(ScalarValue::Int64(Some(offset))),
        ] = args.args.as_slice()
        else {
            return exec_err!("{TUMBLE_START} takes a time, and size and offset as literal microseconds");
        };
        let Some(window) = WindowSpec::tumble(*size, *offset) else {
            return exec_err!("a window of {size} microseconds holds nothing");
        };
        match time {
            ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(time, zone)) => Ok(ColumnarValue::Scalar(
                ScalarValue::TimestampMicrosecond(time.map(|t| window.slice_of(t).0), zone.clone()),
            )),
            ColumnarValue::Scalar(other) => exec_err!("{TUMBLE_START} takes a time, not {}", other.data_type()),
            ColumnarValue::Array(times) => {
                let times = times.as_primitive::<TimestampMicrosecondType>();
                let starts: TimestampMicrosecondArray = times.unary(|time| window.slice_of(time).0);
                Ok(ColumnarValue::Array(Arc::new(starts.with_timezone("UTC")) as ArrayRef))
            }
        }
    }
}
