//! Planning that does not stop at the first unknown name.
//!
//! The one law: a name that is not known is told, then NULL takes its place and the rest is planned again. What is found
//! after that is believed only if it is another unknown name: everything else may be a mere consequence of the NULL.

use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{Expr, Spanned, Value, VisitMut, visit_expressions_mut};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::place::{Refusal, Refusals, is_unknown_name};

/// Unknown names told of one statement. Each costs one more planning; who has this many has the wrong table.
const UNKNOWN_NAMES_MAX: usize = 20;

/// The statement's plan; `None` when it has none, for reasons then among `refused`.
///
/// What is among them already counts: after it only unknown names are added.
pub(super) async fn plan(
    state: &SessionState,
    mut statement: Statement,
    refuse: impl Fn(DataFusionError) -> Refusal,
    refused: &mut Refusals,
) -> Option<LogicalPlan> {
    for _ in 0..UNKNOWN_NAMES_MAX {
        let error = match state.statement_to_plan(statement.clone()).await {
            Ok(plan) => return refused.is_empty().then_some(plan),
            Err(error) => error,
        };
        let is_unknown = is_unknown_name(&error);
        let refusal = refuse(error);
        let at = refusal.at();
        if is_unknown || refused.is_empty() {
            refused.push(refusal);
        }
        if !is_unknown || !mask(&mut statement, at) {
            break;
        }
    }
    None
}

/// Puts NULL in the place of the name or call that begins at `at`; answers whether there was one.
fn mask(statement: &mut Statement, at: Location) -> bool {
    match statement {
        Statement::Statement(statement) => mask_in(statement, at),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => mask_in(query, at),
            CopyToSource::Relation(_) => false,
        },
        Statement::Explain(explain) => mask(&mut explain.statement, at),
        Statement::CreateExternalTable(_) | Statement::Reset(_) => false,
    }
}

fn mask_in(part: &mut impl VisitMut, at: Location) -> bool {
    if at.line == 0 {
        return false;
    }
    visit_expressions_mut(part, |expr| {
        let starts_here = match expr {
            Expr::Identifier(name) => name.span.start == at,
            Expr::CompoundIdentifier(parts) => parts.iter().any(|part| part.span.start == at),
            Expr::Function(call) => call.name.span().start == at,
            _ => false,
        };
        if starts_here {
            *expr = Expr::Value(Value::Null.into());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })
    .is_break()
}
