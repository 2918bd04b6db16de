//! Planning that does not stop at the first unknown name.
//!
//! The one law: a name that is not known is told, then the nearest one (else NULL) takes its place and the rest is planned
//! again. What is found after that is believed only if it is another unknown name: everything else may be a mere
//! consequence of the guess.

use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, ObjectNamePart, SetExpr, Spanned, Statement as SqlStatement, Value, VisitMut,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Span};

use super::place::{Refusal, Refusals, is_aggregate_in_where, is_no_condition, is_unknown_name};
use crate::syntax::{change_exprs, look_at_exprs};

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
        let place = match () {
            () if is_no_condition(&error) => condition(&statement).map_or_else(Span::empty, Spanned::span),
            () if is_aggregate_in_where(&error) => {
                condition(&statement).and_then(|condition| aggregate(condition, state)).unwrap_or_else(Span::empty)
            }
            () => Span::empty(),
        };
        let refusal = refuse(error).or_at(place);
        let at = refusal.at();
        let is_told = refused.iter().any(|other| other.at() == at);
        // A guess that is refused too is not worth another.
        let guess = refusal.meant().filter(|_| !is_told).map(str::to_owned);
        if !is_told && (is_unknown || refused.is_empty()) {
            refused.push(refusal);
        }
        if !is_unknown || !replace(&mut statement, at, guess.as_deref()) {
            break;
        }
    }
    None
}

/// The condition of the outermost SELECT.
fn condition(statement: &Statement) -> Option<&Expr> {
    let Statement::Statement(statement) = statement else { return None };
    let SqlStatement::Query(query) = statement.as_ref() else { return None };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    select.selection.as_ref().or(select.having.as_ref())
}

/// Where the first aggregate of a condition stands.
fn aggregate(condition: &Expr, state: &SessionState) -> Option<Span> {
    let found = look_at_exprs(condition, |expr| match expr {
        Expr::Function(call) if state.aggregate_functions().contains_key(&call.name.to_string().to_lowercase()) => {
            ControlFlow::Break(call.name.span())
        }
        _ => ControlFlow::Continue(()),
    });
    found.break_value()
}

/// Puts the guess, or NULL, in the place of the name or call that begins at `at`; answers whether there was one.
fn replace(statement: &mut Statement, at: Location, guess: Option<&str>) -> bool {
    match statement {
        Statement::Statement(statement) => replace_in(statement, at, guess),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => replace_in(query, at, guess),
            CopyToSource::Relation(_) => false,
        },
        Statement::Explain(explain) => replace(&mut explain.statement, at, guess),
        Statement::CreateExternalTable(_) | Statement::Reset(_) => false,
    }
}

fn replace_in(part: &mut impl VisitMut, at: Location, guess: Option<&str>) -> bool {
    if at.line == 0 {
        return false;
    }
    change_exprs(part, |expr| {
        let name = match expr {
            Expr::Identifier(name) if name.span.start == at => Some(name),
            Expr::CompoundIdentifier(parts) if parts.iter().any(|part| part.span.start == at) => parts.last_mut(),
            Expr::Function(call) if call.name.span().start == at => match call.name.0.last_mut() {
                Some(ObjectNamePart::Identifier(name)) => Some(name),
                _ => None,
            },
            _ => return ControlFlow::Continue(()),
        };
        match (name, guess) {
            (Some(name), Some(guess)) => name.value = guess.to_owned(),
            _ => *expr = Expr::Value(Value::Null.into()),
        }
        ControlFlow::Break(())
    })
    .is_break()
}
