//! Views on views in a restatement: which windows of a child its parent's windows lead to.
//!
//! The one law: a child is restated after its parent, from the parent's table as it is then. A view whose parent cannot be
//! restated is not restated either.

use super::Subject;
use super::rounds::note;
use crate::sql::{Driver, TimeRange};
use crate::window::joined;

/// The ways down to `subject`, each from a query over the stream, itself included: several where it joins the windows of
/// several views. None when one of its ancestors is not among `subjects`.
pub(super) fn descents<'a>(subject: &'a Subject, subjects: &'a [Subject]) -> Vec<Vec<&'a Subject>> {
    let mut ways = Vec::new();
    for driver in subject.query.drivers() {
        let Driver::View(parent) = driver else { return vec![vec![subject]] };
        let Some(parent) = subjects.iter().find(|other| *other.query.name() == parent.name) else { return Vec::new() };
        let above = descents(parent, subjects);
        if above.is_empty() {
            return Vec::new();
        }
        ways.extend(above.into_iter().map(|mut way| {
            way.push(subject);
            way
        }));
    }
    ways
}

/// The closed windows of the last query of a way that rows of `ranges`, windows of the first one, fall into.
pub(super) fn follow(way: &[&Subject], ranges: Vec<TimeRange>) -> Vec<TimeRange> {
    way.windows(2).fold(ranges, |ranges, step| {
        let [above, child] = step else { return ranges };
        let mut windows = Vec::new();
        let ranges = joined(ranges);
        for driver in child.query.drivers() {
            let Driver::View(parent) = driver else { continue };
            if *above.query.name() == parent.name {
                ranges.iter().for_each(|range| note(child, parent.times_of(*range), &mut windows));
            }
        }
        windows
    })
}
