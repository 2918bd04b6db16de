//! Generated columns and checks of a contract: SQL expressions, compiled once, evaluated a batch at a time.
//!
//! The one law: an expression is a function of its row alone, so that replaying a record gives the same row. One that an
//! expression cannot be computed for is refused alone; it never fails its batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options, concat};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::rejects::{Reason, Refusal};
use crate::contract::{Column, Origin, TableContract};
use crate::error::{Context, Error, Result};

/// Rows that cannot stay, each with the first reason found.
pub(super) type Refusals = BTreeMap<usize, Refusal>;

/// The compiled expressions of one contract.
#[derive(Debug)]
pub(super) struct Rules {
    generated: Vec<Generated>,
    checks: Vec<Check>,
}

#[derive(Debug)]
struct Generated {
    name: Arc<str>,
    data_type: DataType,
    nullable: bool,
    expression: Arc<dyn PhysicalExpr>,
}

#[derive(Debug)]
struct Check {
    column: Arc<str>,
    text: String,
    expression: Arc<dyn PhysicalExpr>,
}

impl Rules {
    /// `input` is the schema generated columns may read, `rows` the one checks may.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the column, for an expression that does not plan, is no rule, or depends on more than its
    /// row.
    pub(super) fn compile(contract: &TableContract, input: &SchemaRef, rows: &SchemaRef) -> Result<Self> {
        // Money in rules is exact: `0.1` is a decimal, as in the standing queries.
        let config = SessionConfig::new().set_bool("datafusion.sql_parser.parse_float_as_decimal", true);
        let state = SessionContext::new_with_config(config).state();
        let mut rules = Self { generated: Vec::new(), checks: Vec::new() };
        for column in &contract.columns {
            if let Origin::Generated(sql) = &column.origin {
                let source = Source { contract, column, sql };
                let castable = |given: &DataType| can_cast_types(given, &column.data_type);
                rules.generated.push(Generated {
                    name: Arc::clone(&column.name),
                    data_type: column.data_type.clone(),
                    nullable: column.nullable,
                    expression: source.compile(&state, input, &column.data_type, castable)?,
                });
            }
            if let Some(sql) = &column.check {
                let source = Source { contract, column, sql };
                let boolean = |given: &DataType| *given == DataType::Boolean;
                rules.checks.push(Check {
                    column: Arc::clone(&column.name),
                    text: sql.clone(),
                    expression: source.compile(&state, rows, &DataType::Boolean, boolean)?,
                });
            }
        }
        Ok(rules)
    }

    /// The generated columns of a batch of input columns, by name.
    pub(super) fn generate(&self, input: &RecordBatch, refusals: &mut Refusals) -> Result<Vec<(Arc<str>, ArrayRef)>> {
        let mut columns = Vec::with_capacity(self.generated.len());
        for generated in &self.generated {
            let array = evaluate(&*generated.expression, input, &generated.data_type, |row| {
                let refusal =
                    Refusal::of_field(Reason::Incomputable, &generated.name, "this column cannot be computed");
                refusals.entry(row).or_insert(refusal);
            })?;
            if !generated.nullable && array.null_count() > 0 {
                for row in (0..array.len()).filter(|row| array.is_null(*row)) {
                    let refusal =
                        Refusal::of_field(Reason::MissingField, &generated.name, "required, and computed as null");
                    refusals.entry(row).or_insert(refusal);
                }
            }
            columns.push((Arc::clone(&generated.name), array));
        }
        Ok(columns)
    }

    /// Refuses the rows for which a rule is false; one that is null passes, as in SQL.
    pub(super) fn check(&self, rows: &RecordBatch, refusals: &mut Refusals) -> Result<()> {
        for check in &self.checks {
            let passed = evaluate(&*check.expression, rows, &DataType::Boolean, |row| {
                let detail = format!("this rule cannot be computed: {}", check.text);
                refusals.entry(row).or_insert_with(|| Refusal::of_field(Reason::Incomputable, &check.column, detail));
            })?;
            let passed = passed.as_boolean();
            if passed.true_count() + passed.null_count() == passed.len() {
                continue;
            }
            for row in (0..passed.len()).filter(|row| passed.is_valid(*row) && !passed.value(*row)) {
                let detail = format!("this must hold: {}", check.text);
                refusals.entry(row).or_insert_with(|| Refusal::of_field(Reason::CheckFailed, &check.column, detail));
            }
        }
        Ok(())
    }
}

/// Evaluates over the batch; when that fails (a division by zero, a text that is no number) over each row alone, so that
/// only the rows at fault are refused. Those are null in the answer.
fn evaluate(
    expression: &dyn PhysicalExpr,
    batch: &RecordBatch,
    data_type: &DataType,
    mut refuse: impl FnMut(usize),
) -> Result<ArrayRef> {
    let rows = batch.num_rows();
    if let Ok(array) = evaluate_once(expression, batch, data_type) {
        return Ok(array);
    }
    let mut arrays = Vec::with_capacity(rows);
    for row in 0..rows {
        arrays.push(evaluate_once(expression, &batch.slice(row, 1), data_type).unwrap_or_else(|_| {
            refuse(row);
            new_null_array(data_type, 1)
        }));
    }
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    concat(&arrays).context(|| "joining rows of a rule")
}

fn evaluate_once(
    expression: &dyn PhysicalExpr,
    batch: &RecordBatch,
    data_type: &DataType,
) -> Result<ArrayRef, DataFusionError> {
    let array = expression.evaluate(batch)?.into_array(batch.num_rows())?;
    if array.data_type() == data_type {
        return Ok(array);
    }
    Ok(cast_with_options(&array, data_type, &CastOptions { safe: false, ..CastOptions::default() })?)
}

/// An expression and where it stands.
struct Source<'a> {
    contract: &'a TableContract,
    column: &'a Column,
    sql: &'a str,
}

impl Source<'_> {
    fn compile(
        &self,
        state: &SessionState,
        schema: &SchemaRef,
        wanted: &DataType,
        fits: impl Fn(&DataType) -> bool,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let refuse = |e: DataFusionError| self.usage(&e.strip_backtrace());
        let names = DFSchema::try_from(schema.as_ref().clone()).map_err(refuse)?;
        let logical = state.create_logical_expr(self.sql, &names).map_err(refuse)?;
        let varies =
            |e: &Expr| matches!(e, Expr::ScalarFunction(f) if f.func.signature().volatility != Volatility::Immutable);
        if logical.exists(|e| Ok(varies(e))).map_err(refuse)? {
            return Err(self.usage("it must depend on its row alone, not on time or chance"));
        }
        let expression = state.create_physical_expr(logical, &names).map_err(refuse)?;
        let given = expression.data_type(schema).map_err(refuse)?;
        if !fits(&given) {
            return Err(self.usage(&format!("it gives {given}, wanted is {wanted}")));
        }
        Ok(expression)
    }

    fn usage(&self, what: &str) -> Error {
        let Self { contract, column, sql } = self;
        Error::usage(format!("contract `{}`, column `{}`: `{sql}`: {what}", contract.name, column.name))
    }
}
