//! Files of SQL, read; and walks over syntax trees.
//!
//! The one law: sqlparser's `visit` is called here and nowhere else. It is compiled anew for each type of visitor, every node
//! there is with it: eighteen types were a third of this crate's machine code.

use std::ops::ControlFlow;
use std::path::Path;
use std::{fs, io};

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, TableFactor, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};

/// What some editors put in front of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of a file of SQL.
///
/// # Errors
/// A file that cannot be read, or is no UTF-8.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim_start_matches(BYTE_ORDER_MARK).to_owned())
}

/// Looks at nodes, at each before those below it.
pub(crate) trait Look {
    /// What ends a walk early.
    type Break;

    fn query(&mut self, _query: &Query) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }

    fn table_factor(&mut self, _factor: &TableFactor) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }

    fn expr(&mut self, _expr: &Expr) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }

    fn value(&mut self, _value: &ValueWithSpan) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }
}

/// Changes nodes: an expression after those below it, all others before.
pub(crate) trait Change {
    /// What ends a walk early.
    type Break;

    fn select(&mut self, _select: &mut Select) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }

    fn relation(&mut self, _relation: &mut ObjectName) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }

    fn table_factor(&mut self, _factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }

    fn expr(&mut self, _expr: &mut Expr) -> ControlFlow<Self::Break> {
        ControlFlow::Continue(())
    }
}

/// Looks at all nodes of a part, or at those before one that ends the walk.
pub(crate) fn look<L: Look>(part: &impl Visit, with: &mut L) -> ControlFlow<L::Break> {
    let mut keeping = Keeping { walker: with, kept: None };
    let flow = part.visit(&mut Looking(&mut keeping));
    keeping.ended(flow)
}

/// Looks at all expressions of a part, each before those it is made of.
pub(crate) fn look_at_exprs<B>(part: &impl Visit, look_at: impl FnMut(&Expr) -> ControlFlow<B>) -> ControlFlow<B> {
    look(part, &mut Exprs(look_at))
}

/// Changes all nodes of a part, or those before one that ends the walk.
pub(crate) fn change<C: Change>(part: &mut impl VisitMut, with: &mut C) -> ControlFlow<C::Break> {
    let mut keeping = Keeping { walker: with, kept: None };
    let flow = part.visit(&mut Changing(&mut keeping));
    keeping.ended(flow)
}

/// Changes all expressions of a part, each after those it is made of.
pub(crate) fn change_exprs<B>(
    part: &mut impl VisitMut,
    change_one: impl FnMut(&mut Expr) -> ControlFlow<B>,
) -> ControlFlow<B> {
    change(part, &mut Exprs(change_one))
}

/// The one visitor there is code for.
struct Looking<'a>(&'a mut dyn Look<Break = ()>);

impl Visitor for Looking<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.0.query(query)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.0.table_factor(factor)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.0.expr(expr)
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        self.0.value(value)
    }
}

/// The one visitor that changes.
struct Changing<'a>(&'a mut dyn Change<Break = ()>);

impl VisitorMut for Changing<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.0.select(select)
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        self.0.relation(relation)
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.0.table_factor(factor)
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.0.expr(expr)
    }
}

/// Keeps what ended the walk, so that all walks end alike.
struct Keeping<'a, W, B> {
    walker: &'a mut W,
    kept: Option<B>,
}

impl<W, B> Keeping<'_, W, B> {
    fn keep(&mut self, flow: ControlFlow<B>) -> ControlFlow<()> {
        flow.map_break(|kept| self.kept = Some(kept))
    }

    fn ended(self, flow: ControlFlow<()>) -> ControlFlow<B> {
        match (flow, self.kept) {
            (ControlFlow::Break(()), Some(kept)) => ControlFlow::Break(kept),
            (ControlFlow::Break(()), None) | (ControlFlow::Continue(()), _) => ControlFlow::Continue(()),
        }
    }
}

impl<L: Look> Look for Keeping<'_, L, L::Break> {
    type Break = ();

    fn query(&mut self, query: &Query) -> ControlFlow<()> {
        let flow = self.walker.query(query);
        self.keep(flow)
    }

    fn table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let flow = self.walker.table_factor(factor);
        self.keep(flow)
    }

    fn expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let flow = self.walker.expr(expr);
        self.keep(flow)
    }

    fn value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        let flow = self.walker.value(value);
        self.keep(flow)
    }
}

impl<C: Change> Change for Keeping<'_, C, C::Break> {
    type Break = ();

    fn select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let flow = self.walker.select(select);
        self.keep(flow)
    }

    fn relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let flow = self.walker.relation(relation);
        self.keep(flow)
    }

    fn table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let flow = self.walker.table_factor(factor);
        self.keep(flow)
    }

    fn expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let flow = self.walker.expr(expr);
        self.keep(flow)
    }
}

struct Exprs<F>(F);

impl<B, F: FnMut(&Expr) -> ControlFlow<B>> Look for Exprs<F> {
    type Break = B;

    fn expr(&mut self, expr: &Expr) -> ControlFlow<B> {
        self.0(expr)
    }
}

impl<B, F: FnMut(&mut Expr) -> ControlFlow<B>> Change for Exprs<F> {
    type Break = B;

    fn expr(&mut self, expr: &mut Expr) -> ControlFlow<B> {
        self.0(expr)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn parsed(text: &str) -> Statement {
        Parser::parse_sql(&GenericDialect {}, text).unwrap().remove(0)
    }

    #[test]
    fn what_an_editor_puts_in_front_is_no_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "\u{feff}SELECT 'é'\u{feff}").unwrap();
        assert_eq!(read(file.path()).unwrap(), "SELECT 'é'\u{feff}");
    }

    #[test]
    fn a_walk_goes_everywhere_and_ends_where_it_is_told_to() {
        let statement = parsed("SELECT f(a, g(b)) FROM t JOIN (SELECT 1 FROM u WHERE c = 2) AS v ON v.d = t.d");
        let mut seen = Vec::new();
        let whole: ControlFlow<()> = look_at_exprs(&statement, |expr| {
            seen.push(expr.to_string());
            ControlFlow::Continue(())
        });
        assert!(whole.is_continue());
        for expr in ["f(a, g(b))", "g(b)", "b", "c = 2", "v.d = t.d"] {
            assert!(seen.iter().any(|seen| seen == expr), "{expr}: {seen:?}");
        }
        let ended = look_at_exprs(&statement, |expr| match expr {
            Expr::BinaryOp { right, .. } => ControlFlow::Break(right.to_string()),
            _ => ControlFlow::Continue(()),
        });
        assert_eq!(ended, ControlFlow::Break("2".to_owned()), "the subquery stands before the condition of its join");
    }

    #[test]
    fn expressions_are_changed_from_below() {
        let mut statement = parsed("SELECT f(a), a FROM t");
        let ended = change_exprs(&mut statement, |expr| {
            if let Expr::Identifier(name) = expr {
                name.value.push('b');
            }
            if expr.to_string() == "f(ab)" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(ended.is_break());
        assert_eq!(statement.to_string(), "SELECT f(ab), a FROM t");
    }
}
