//! Views on views in a restatement: which windows of a child its parent's windows lead to.
//!
//! The one law: a child is restated after its parent, from the parent's table as it is then. A view whose parent cannot be
//! restated is not restated either.

use super::Subject;
use super::rounds::note;
use crate::sql::{Driver, TimeRange};
use crate::window::joined;

/// The queries from the one over the stream down to `subject`, itself included; `None` when one of them is not among
/// `subjects`.
pub(super) fn descent<'a>(subject: &'a Subject, subjects: &'a [Subject]) -> Option<Vec<&'a Subject>> {
    let mut way = vec![subject];
    while let Some(Driver::View(parent)) = way.last().map(|subject| subject.query.driver()) {
        way.push(subjects.iter().find(|other| *other.query.name() == parent.name)?);
    }
    way.reverse();
    Some(way)
}

/// The closed windows of the last query of a way that rows of `ranges`, windows of the first one, fall into.
pub(super) fn follow(way: &[&Subject], ranges: Vec<TimeRange>) -> Vec<TimeRange> {
    way.iter().skip(1).fold(ranges, |ranges, child| {
        let mut windows = Vec::new();
        if let Driver::View(parent) = child.query.driver() {
            for range in joined(ranges) {
                note(child, parent.times_of(range), &mut windows);
            }
        }
        windows
    })
}
