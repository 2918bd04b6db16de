//! What functions a standing query may call.
//!
//! The one law: the same rows give the same answer, whenever and in whatever order they are read. A function that cannot
//! promise it is refused here, by name and place.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Volatility;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArgumentClause, FunctionArguments, Ident, ObjectNamePart, Spanned, Visit,
};

use super::file::normal;
use super::place::{Refusal, Refusals};
use crate::syntax::look_at_exprs;

/// Aggregates whose answer depends on the order of rows: refused without ORDER BY. With one they stream, as far as the
/// order is total: end it with the identity column.
const ORDER_SENSITIVE: [&str; 5] = ["array_agg", "first_value", "last_value", "nth_value", "string_agg"];

/// Aggregates that may answer with any row's value: refused, whatever order is asked for.
const ARBITRARY: [&str; 1] = ["any_value"];

/// Functions of other engines, and what to write instead.
const FOREIGN: [(&str, &str); 8] = [
    ("arg_max", "first_value(x ORDER BY y DESC, …)"),
    ("arg_min", "first_value(x ORDER BY y, …)"),
    ("count_if", "count(*) FILTER (WHERE …)"),
    ("countif", "count(*) FILTER (WHERE …)"),
    ("group_concat", "string_agg(x, ',' ORDER BY …)"),
    ("listagg", "string_agg(x, ',' ORDER BY …)"),
    ("max_by", "first_value(x ORDER BY y DESC, …)"),
    ("min_by", "first_value(x ORDER BY y, …)"),
];

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

    fn unknown(&self, name: &Ident) -> Refusal {
        let refusal = Refusal::new(name.span, format!("no function `{}`", name.value));
        let name = normal(name);
        match FOREIGN.iter().find(|(foreign, _)| *foreign == name) {
            Some((_, ours)) => refusal.help(format!("write `{ours}`")),
            None => refusal.near(&name, self.0.keys().map(String::as_str)),
        }
    }

    /// Checks one call; `event_time` is what to use in place of "now".
    ///
    /// Answers whether the call is an aggregate.
    pub(super) fn check(&self, call: &Function, event_time: &str) -> Result<bool, Refusal> {
        let Some(ident) = call.name.0.last().and_then(|part| part.as_ident()) else {
            return Err(Refusal::new(call.name.span(), format!("`{}` is no function's name", call.name)));
        };
        let (at, shown, name) = (ident.span, ident.value.as_str(), normal(ident));
        if call.over.is_some() {
            return Err(Refusal::new(at, format!("`{shown}(…) OVER` is not supported yet in a standing query"))
                .help("write a batch query over the table this one fills"));
        }
        match self.0.get(&name) {
            None if name == "unnest" => {
                Err(Refusal::new(at, format!("`{shown}` makes several rows of one, which a standing query does not"))
                    .help("write a batch query"))
            }
            None => Err(self.unknown(ident)),
            Some(Kind::Scalar(Volatility::Immutable)) => Ok(false),
            Some(Kind::Scalar(_)) => Err(Refusal::new(at, format!("`{shown}` answers differently each time"))
                .help(format!("use the row's `{event_time}`, or a column"))
                .note("stream and batch would disagree, and so would a restart")),
            Some(Kind::Window) => {
                Err(Refusal::new(at, format!("`{shown}` is a window function, which is not supported yet"))
                    .help("write a batch query over the table this one fills"))
            }
            Some(Kind::Ordered) if !has_order(call) => {
                Err(Refusal::new(at, format!("`{shown}` depends on the order of rows, which a stream does not keep"))
                    .help(format!(
                        "write `{shown}(… ORDER BY {event_time}, …)`, ending with the column that identifies a row"
                    )))
            }
            Some(Kind::Arbitrary) => Err(Refusal::new(at, format!("`{shown}` answers with the value of any row"))
                .help(format!("write `min(…)` or `first_value(… ORDER BY {event_time}, …)`"))
                .note("stream and batch would disagree")),
            Some(Kind::Aggregate | Kind::Ordered) => Ok(true),
        }
    }
}

/// The calls of functions that are not registered; some that are not, like `unnest`, are known to the planner all the same.
pub(super) fn unknown(statement: &impl Visit, state: &SessionState) -> Refusals {
    let functions = Functions::of(state);
    let mut refused = Refusals::default();
    let _: ControlFlow<()> = look_at_exprs(statement, |expr| {
        if let Expr::Function(call) = expr
            && let [ObjectNamePart::Identifier(name)] = call.name.0.as_slice()
            && !functions.0.contains_key(&normal(name))
        {
            refused.push(functions.unknown(name));
        }
        ControlFlow::Continue(())
    });
    refused
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
