//! What functions a standing query may call.
//!
//! The one law: the same rows give the same answer, whenever and in whatever order they are read. A function that cannot
//! promise it is refused here, by name and place.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Volatility;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArgumentClause, FunctionArguments, Spanned, Visit, visit_expressions,
};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::file::normal;
use super::place::{Refusal, nearest};

/// Aggregates whose answer depends on the order of rows: refused without ORDER BY. With one they stream, as far as the
/// order is total: end it with the identity column.
const ORDER_SENSITIVE: [&str; 5] = ["array_agg", "first_value", "last_value", "nth_value", "string_agg"];

/// Aggregates that may answer with any row's value: refused, whatever order is asked for.
const ARBITRARY: [&str; 1] = ["any_value"];

/// The functions of a session, by every name they have.
pub(super) struct Functions(BTreeMap<String, Kind>);

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Scalar(Volatility),
    Aggregate,
    Window,
    /// An aggregate under a name of [`ORDER_SENSITIVE`] or an alias of one.
    Ordered,
    /// An aggregate of [`ARBITRARY`].
    Arbitrary,
}

impl Functions {
    pub(super) fn of(state: &SessionState) -> Self {
        let mut known = BTreeMap::new();
        for (name, function) in state.window_functions() {
            known.insert(name.to_lowercase(), Kind::Window);
            known.extend(function.aliases().iter().map(|alias| (alias.to_lowercase(), Kind::Window)));
        }
        for (name, function) in state.aggregate_functions() {
            let kind = match function.name() {
                name if ORDER_SENSITIVE.contains(&name) => Kind::Ordered,
                name if ARBITRARY.contains(&name) => Kind::Arbitrary,
                _ => Kind::Aggregate,
            };
            known.insert(name.to_lowercase(), kind);
            known.extend(function.aliases().iter().map(|alias| (alias.to_lowercase(), kind)));
        }
        for (name, function) in state.scalar_functions() {
            known.insert(name.to_lowercase(), Kind::Scalar(function.signature().volatility));
        }
        Self(known)
    }

    /// Checks one call; `event_time` is what to use in place of "now".
    ///
    /// Answers whether the call is an aggregate.
    pub(super) fn check(&self, call: &Function, event_time: &str) -> Result<bool, Refusal> {
        let Some(name) = call.name.0.last().and_then(|part| part.as_ident()) else {
            return Err(Refusal::new(call.name.span(), format!("`{}` is no function's name", call.name)));
        };
        let (at, shown, name) = (name.span, name.value.as_str(), normal(name));
        if call.over.is_some() {
            return Err(refuse(
                at,
                format!("`{shown}(…) OVER` is not supported yet; write a batch query over the table this one fills"),
            ));
        }
        match self.0.get(&name) {
            None => {
                let near = nearest(&name, self.0.keys().map(String::as_str));
                let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                Err(refuse(at, format!("no function `{shown}`{hint}")))
            }
            Some(Kind::Scalar(Volatility::Immutable)) => Ok(false),
            Some(Kind::Scalar(_)) => Err(refuse(
                at,
                format!(
                    "`{shown}` answers differently each time, so stream and batch would disagree; use the row's `{event_time}`"
                ),
            )),
            Some(Kind::Window) => Err(refuse(
                at,
                format!("`{shown}` is a window function, which is not supported yet; write a batch query"),
            )),
            Some(Kind::Ordered) if !has_order(call) => Err(refuse(
                at,
                format!(
                    "`{shown}` depends on the order of rows, which a stream does not keep; write `{shown}(… ORDER BY {event_time}, …)`"
                ),
            )),
            Some(Kind::Arbitrary) => Err(refuse(
                at,
                format!(
                    "`{shown}` answers with the value of any row, so stream and batch would disagree; write `min(…)` or \
                     `first_value(… ORDER BY {event_time}, …)`"
                ),
            )),
            Some(Kind::Aggregate | Kind::Ordered) => Ok(true),
        }
    }
}

/// The functions a statement calls, and where.
pub(super) fn calls(statement: &impl Visit) -> Vec<(String, Span)> {
    let mut found = Vec::new();
    let _: ControlFlow<()> = visit_expressions(statement, |expr| {
        if let Expr::Function(call) = expr {
            found.push((call.name.to_string().to_lowercase(), call.name.span()));
        }
        ControlFlow::Continue(())
    });
    found
}

fn refuse(at: Span, message: String) -> Refusal {
    Refusal::new(at, message)
}

fn has_order(call: &Function) -> bool {
    let in_list = match &call.args {
        FunctionArguments::List(list) => {
            list.clauses.iter().any(|clause| matches!(clause, FunctionArgumentClause::OrderBy(_)))
        }
        FunctionArguments::None | FunctionArguments::Subquery(_) => false,
    };
    in_list || !call.within_group.is_empty()
}
