//! The SQL functions behind windows: their starts and ends, for every time, early or late in history.
//!
//! The one law: they compute what [`WindowSpec`] and its grid say and nothing else. Lengths and offsets are literal
//! microseconds, a time zone is a literal name in the offset's place.
//! (`date_bin` counts in nanoseconds and answers NULL outside the years 1677–2262, so that one strange record would make
//! a window that never closes; it knows no time zones either.)

use std::cell::Cell;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, TimestampMicrosecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use crate::clock::Micros;
use crate::contract::timestamp_type;
use crate::sql::grid::{Grid, Place};
use crate::sql::spec::{WindowShape, WindowSpec};

/// Which function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// `tumble_start(time, size, place)`, `tumble_end(time, size, place)`: of the window a time falls into.
    TumbleStart,
    TumbleEnd,
    /// `hop_starts(time, slide, size, place)`: of all windows a time falls into; `hop_end(start, slide, size, place)`.
    HopStarts,
    HopEnd,
    /// `cumulate_start(time, step, size, place)`; `cumulate_ends(time, step, size, place)`: of all windows of a time.
    CumulateStart,
    CumulateEnds,
    /// `session_end(time, gap)`: the end of a session whose last row is at this time.
    SessionEnd,
}

const KINDS: [Kind; 7] = [
    Kind::TumbleStart,
    Kind::TumbleEnd,
    Kind::HopStarts,
    Kind::HopEnd,
    Kind::CumulateStart,
    Kind::CumulateEnds,
    Kind::SessionEnd,
];

/// All of them, to be registered in a session.
pub(in crate::sql) fn window_functions() -> impl Iterator<Item = ScalarUDF> {
    KINDS.into_iter().map(|kind| ScalarUDF::from(WindowFunction { kind, signature: kind.signature() }))
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::TumbleStart => "tumble_start",
            Self::TumbleEnd => "tumble_end",
            Self::HopStarts => "hop_starts",
            Self::HopEnd => "hop_end",
            Self::CumulateStart => "cumulate_start",
            Self::CumulateEnds => "cumulate_ends",
            Self::SessionEnd => "session_end",
        }
    }

    /// How many lengths follow the time.
    fn lengths(self) -> usize {
        match self {
            Self::TumbleStart | Self::TumbleEnd | Self::SessionEnd => 1,
            Self::HopStarts | Self::HopEnd | Self::CumulateStart | Self::CumulateEnds => 2,
        }
    }

    fn signature(self) -> Signature {
        let mut types = vec![timestamp_type()];
        types.extend(vec![DataType::Int64; self.lengths()]);
        if self == Self::SessionEnd {
            return Signature::exact(types, Volatility::Immutable);
        }
        let at = |place| TypeSignature::Exact(types.iter().cloned().chain([place]).collect());
        Signature::one_of(vec![at(DataType::Int64), at(DataType::Utf8)], Volatility::Immutable)
    }

    fn is_list(self) -> bool {
        matches!(self, Self::HopStarts | Self::CumulateEnds)
    }

    fn return_type(self) -> DataType {
        if self.is_list() { DataType::List(Arc::new(item())) } else { timestamp_type() }
    }

    /// The windows that the literal arguments describe.
    fn spec(self, lengths: &[Micros], place: Option<Place>) -> Option<WindowSpec> {
        let grid = |length| Grid::at_place(length, place?);
        match (self, lengths) {
            (Self::TumbleStart | Self::TumbleEnd, [size]) => grid(*size).map(WindowSpec::tumbling),
            (Self::HopStarts | Self::HopEnd, [slide, size]) => WindowSpec::hopping(grid(*slide)?, *size),
            (Self::CumulateStart | Self::CumulateEnds, [step, size]) => WindowSpec::cumulating(grid(*step)?, *size),
            (Self::SessionEnd, [gap]) => WindowSpec::session(*gap),
            _ => None,
        }
    }
}

fn item() -> Field {
    Field::new_list_field(timestamp_type(), true)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowFunction {
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.kind.return_type())
    }

    /// A window is NULL only where the time is: event times are NOT NULL, so their windows are.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.first().is_none_or(|time| time.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.kind.return_type(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = self.name();
        let [time, literals @ ..] = args.args.as_slice() else { return exec_err!("{name} takes a time") };
        let (mut lengths, mut place) = (Vec::new(), None);
        for literal in literals {
            match literal {
                ColumnarValue::Scalar(ScalarValue::Int64(Some(n))) if lengths.len() < self.kind.lengths() => {
                    lengths.push(*n);
                }
                ColumnarValue::Scalar(ScalarValue::Int64(Some(offset))) => place = Some(Place::Offset(*offset)),
                ColumnarValue::Scalar(ScalarValue::Utf8(Some(zone))) => place = zone.parse().ok().map(Place::Zone),
                _ => return exec_err!("{name} takes a time, then lengths, offset or time zone as literals"),
            }
        }
        let Some(spec) = self.kind.spec(&lengths, place) else {
            return exec_err!("no windows of {lengths:?} microseconds with {place:?}");
        };
        let times = time.to_array(args.number_rows)?;
        let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
            return exec_err!("{name} takes a time, not {}", times.data_type());
        };
        Ok(ColumnarValue::Array(if self.kind.is_list() { lists(spec, times)? } else { self.kind.bound(spec, times) }))
    }
}

impl Kind {
    /// One bound of the window of each time.
    fn bound(self, spec: WindowSpec, times: &TimestampMicrosecondArray) -> ArrayRef {
        let of = |time: Micros| match (self, spec.shape()) {
            (Self::TumbleStart, _) => spec.slice_of(time).0,
            (Self::HopEnd, WindowShape::Hop { slides, cells }) => {
                slides.mark(slides.last_mark(time).saturating_add(cells))
            }
            (Self::CumulateStart, _) => spec.windows_of(time).next().map_or(time, |(start, _)| start),
            _ => spec.slice_of(time).1,
        };
        // Neighbouring rows mostly lie in the same slice, and days of a time zone are dear to find.
        let slice = Cell::new((Micros::MAX, Micros::MAX, Micros::MAX));
        let bounds: TimestampMicrosecondArray = match spec.shape() {
            WindowShape::Session { .. } => times.unary(of),
            _ => times.unary(|time| {
                let (start, end, bound) = slice.get();
                if start <= time && time < end {
                    return bound;
                }
                let ((start, end), bound) = (spec.slice_of(time), of(time));
                slice.set((start, end, bound));
                bound
            }),
        };
        Arc::new(bounds.with_timezone("UTC"))
    }
}

/// For each time the starts of its hops, or the ends of its cumulating windows.
fn lists(spec: WindowSpec, times: &TimestampMicrosecondArray) -> Result<ArrayRef> {
    let is_hop = matches!(spec.shape(), WindowShape::Hop { .. });
    let mut values: Vec<Micros> = Vec::new();
    let mut lengths = Vec::with_capacity(times.len());
    let mut bounds: Vec<Micros> = Vec::new();
    let mut slice = (0, 0);
    for time in times {
        let Some(time) = time else {
            lengths.push(0);
            continue;
        };
        if time < slice.0 || time >= slice.1 {
            slice = spec.slice_of(time);
            bounds = spec.windows_of(time).map(|(start, end)| if is_hop { start } else { end }).collect();
        }
        values.extend_from_slice(&bounds);
        lengths.push(bounds.len());
    }
    let values = TimestampMicrosecondArray::from(values).with_timezone("UTC");
    let nulls: Option<NullBuffer> = times.nulls().cloned();
    let lists = ListArray::try_new(Arc::new(item()), OffsetBuffer::from_lengths(lengths), Arc::new(values), nulls)?;
    Ok(Arc::new(lists))
}
