//! A standing query as a person wants it told: what it reads, keeps and writes.
//!
//! The one law: everything said is taken from the plan that runs, or is the user's own words. Nothing here draws, and
//! how much state there will be is for whoever has a lake to count in.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::{GroupByExpr, Select};

use super::definition::Definition;
use super::feed::FeedExec;
use super::refuse::plain_select;
use super::spec::WindowShape;
use super::standing::StandingQuery;
use super::windowed::WindowedQuery;
use crate::clock::Micros;
use crate::contract::{TableContract, type_name};

/// Bytes of a text in a row of state: city, merchant and card token of the shipped stream have 8 to 40.
const TEXT_BYTES: usize = 24;

/// Bytes of a binary state: the registers of DataFusion's HyperLogLog, the only aggregate shipped that has one.
const SKETCH_BYTES: usize = 16 << 10;

/// Bytes a row costs beside its values: validity, offsets, the hash of its group.
const ROW_BYTES: usize = 16;

/// How a standing query streams.
#[derive(Clone, Debug)]
pub struct StreamingPlan {
    /// FROM, as written.
    pub source: String,
    /// Files it is joined with, as written.
    pub files: Vec<String>,
    /// Columns of the stream that the plan asks for.
    pub columns: Vec<String>,
    /// WHERE, as written.
    pub filter: Option<String>,
    /// Present for a query over windows.
    pub window: Option<WindowPlan>,
    /// The SELECT list, as written.
    pub select: Vec<String>,
    pub output: TableContract,
    pub fingerprint: String,
}

/// What a query over windows keeps.
#[derive(Clone, Debug)]
pub struct WindowPlan {
    pub allowed_lateness: Micros,
    pub shape: WindowShape,
    /// GROUP BY, as written.
    pub groups: Vec<String>,
    /// HAVING, as written.
    pub having: Option<String>,
    /// Whether the rows of open windows are kept as they are, to be joined when their windows close.
    pub keeps_rows: bool,
    /// Columns of a partial row, with their types.
    pub state: Vec<String>,
    /// About how many bytes one group of one window, or one row that is kept, takes.
    pub group_bytes: usize,
    /// Whether some aggregate keeps values one by one (distinct values, ordered lists), so that a group grows with them.
    pub grows: bool,
}

impl StandingQuery {
    /// How the query streams.
    pub fn describe(&self) -> StreamingPlan {
        let (definition, columns) = match self {
            Self::Windowed(query) if !query.split.sides.is_empty() => {
                (&query.definition, columns_read(query.split.sides.iter().map(|side| &side.plan)))
            }
            Self::Windowed(query) => (&query.definition, columns_read([&query.split.partial])),
            Self::Stateless(query) => (&query.definition, columns_read([&query.plan])),
        };
        let select = definition.select();
        let window = match self {
            Self::Windowed(query) => Some(window(query, select)),
            Self::Stateless(_) => None,
        };
        let from = select.map(|select| select.from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        StreamingPlan {
            source: from.unwrap_or_default(),
            files: definition.files.iter().map(|file| file.written.clone()).collect(),
            columns,
            filter: select.and_then(|select| select.selection.as_ref()).map(ToString::to_string),
            window,
            select: select
                .map(|select| select.projection.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            output: self.output().clone(),
            fingerprint: self.fingerprint().to_owned(),
        }
    }
}

impl StreamingPlan {
    /// Columns of the table, with their types.
    pub fn output_columns(&self) -> Vec<String> {
        self.output.columns.iter().map(|column| format!("{} {}", column.name, type_name(&column.data_type))).collect()
    }
}

impl Definition {
    fn select(&self) -> Option<&Select> {
        // A query that was planned is one SELECT.
        plain_select(self.query()).ok()
    }
}

fn window(query: &WindowedQuery, select: Option<&Select>) -> WindowPlan {
    let state = query.split.reduce.schema();
    let groups = match select.map(|select| &select.group_by) {
        Some(GroupByExpr::Expressions(groups, _)) => groups.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    let types = state.fields().iter().map(|field| field.data_type());
    WindowPlan {
        allowed_lateness: query.allowed_lateness(),
        shape: query.window().shape(),
        keeps_rows: query.is_buffered(),
        groups,
        having: select.and_then(|select| select.having.as_ref()).map(ToString::to_string),
        state: state
            .fields()
            .iter()
            .map(|field| format!("{} {}", field.name(), type_name(field.data_type())))
            .collect(),
        group_bytes: ROW_BYTES + types.clone().map(value_bytes).sum::<usize>(),
        grows: types.clone().any(DataType::is_nested),
    }
}

fn value_bytes(data_type: &DataType) -> usize {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => SKETCH_BYTES,
        other => other.primitive_width().unwrap_or(TEXT_BYTES),
    }
}

/// The columns of what drives the query, in order, each once.
fn columns_read<'a>(plans: impl IntoIterator<Item = &'a Arc<dyn ExecutionPlan>>) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for column in plans.into_iter().flat_map(leaf_columns) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns
}

fn leaf_columns(plan: &Arc<dyn ExecutionPlan>) -> Vec<String> {
    match plan.downcast_ref::<FeedExec>() {
        Some(feed) if feed.lookup_name().is_some() => Vec::new(),
        Some(feed) => feed.schema().fields().iter().map(|field| field.name().clone()).collect(),
        // A file, or what stands above.
        None => plan.children().into_iter().flat_map(leaf_columns).collect(),
    }
}
