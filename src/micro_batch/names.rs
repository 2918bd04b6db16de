//! Which column a field of the input feeds, found by remembering the order fields came in last time.
//!
//! The one law: every name of an object is answered once; the second time it is a duplicate, whether declared or not.
//! A producer writes its fields in one order, so after each field its last successor is tried first, byte for byte; a
//! record without an optional field costs one look-up.

use std::collections::HashSet;
use std::sync::Arc;

use hashbrown::HashMap;

use super::sensitive::is_sensitive;

/// Names remembered beyond the declared ones. The data set has one; the bound keeps a producer with ever new names from
/// filling the memory. Names beyond it are looked up anew in each record.
const UNDECLARED_MAX: usize = 256;

/// Longest undeclared name that is remembered, for the same reason.
const UNDECLARED_BYTES_MAX: usize = 128;

/// What a field is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Feeds the input column of this index.
    Column(usize),
    Ignored,
    Sensitive,
}

/// The name stands twice in one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeated(pub Role);

/// All names met so far.
#[derive(Debug)]
pub(super) struct FieldNames {
    names: Vec<Name>,
    by_name: HashMap<Box<str>, usize>,
    /// Names of this object that are not remembered.
    others: HashSet<Box<str>>,
    /// The field read last; `START` before the first.
    last: usize,
    /// Names there may be: the declared ones, [`UNDECLARED_MAX`] and the start.
    names_max: usize,
    /// Counts objects; a name seen in this object carries it.
    object: u64,
}

#[derive(Debug)]
struct Name {
    role: Role,
    /// The name as it is usually written, `"name":`; empty when it cannot be written plainly.
    written: Box<[u8]>,
    /// The field that followed it last time.
    next: usize,
    seen: u64,
}

/// The place before the first field.
const START: usize = 0;

impl FieldNames {
    /// The declared names; the index of each is the column it feeds.
    pub(super) fn new(declared: &[Arc<str>]) -> Self {
        let start = Name { role: Role::Ignored, written: Box::default(), next: START, seen: 0 };
        let mut names = Self {
            names: vec![start],
            by_name: HashMap::default(),
            others: HashSet::default(),
            last: START,
            names_max: 1 + declared.len() + UNDECLARED_MAX,
            object: 0,
        };
        for (column, name) in declared.iter().enumerate() {
            names.remember(name, Role::Column(column));
        }
        names
    }

    /// A new object begins.
    pub(super) fn begin(&mut self) {
        self.object += 1;
        self.last = START;
        if !self.others.is_empty() {
            self.others.clear();
        }
    }

    /// How the next key is expected to be written; empty when there is no telling.
    #[inline]
    pub(super) fn predicted(&self) -> &[u8] {
        &self.names[self.names[self.last].next].written
    }

    /// The predicted key was there.
    #[inline]
    pub(super) fn take_predicted(&mut self) -> Result<Role, Repeated> {
        self.step(self.names[self.last].next)
    }

    /// Another key was there.
    pub(super) fn take(&mut self, name: &str) -> Result<Role, Repeated> {
        if let Some(&index) = self.by_name.get(name) {
            self.names[self.last].next = index;
            return self.step(index);
        }
        let role = if is_sensitive(name) { Role::Sensitive } else { Role::Ignored };
        if self.names.len() < self.names_max && name.len() <= UNDECLARED_BYTES_MAX {
            let index = self.remember(name, role);
            self.names[self.last].next = index;
            return self.step(index);
        }
        if self.others.insert(name.into()) { Ok(role) } else { Err(Repeated(role)) }
    }

    #[inline]
    fn step(&mut self, index: usize) -> Result<Role, Repeated> {
        self.last = index;
        let name = &mut self.names[index];
        if name.seen == self.object {
            return Err(Repeated(name.role));
        }
        name.seen = self.object;
        Ok(name.role)
    }

    fn remember(&mut self, name: &str, role: Role) -> usize {
        let plain = name.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\');
        let written = if plain { format!("\"{name}\":").into_bytes().into() } else { Box::default() };
        let index = self.names.len();
        self.names.push(Name { role, written, next: START, seen: 0 });
        self.by_name.insert(name.into(), index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> FieldNames {
        FieldNames::new(&["a".into(), "b".into(), "c".into()])
    }

    fn read(names: &mut FieldNames, keys: &[&str]) -> (Vec<Result<Role, Repeated>>, usize) {
        names.begin();
        let mut predicted = 0;
        let roles = keys.iter().map(|key| {
            if names.predicted() == format!("\"{key}\":").as_bytes() {
                predicted += 1;
                names.take_predicted()
            } else {
                names.take(key)
            }
        });
        (roles.collect(), predicted)
    }

    #[test]
    fn the_second_object_is_predicted() {
        let mut names = names();
        let expected = vec![Ok(Role::Column(2)), Ok(Role::Ignored), Ok(Role::Column(0))];
        assert_eq!(read(&mut names, &["c", "id", "a"]), (expected.clone(), 0));
        assert_eq!(read(&mut names, &["c", "id", "a"]), (expected, 3));
        assert_eq!(read(&mut names, &["c", "a"]).1, 1);
        assert_eq!(read(&mut names, &["c", "a"]).1, 2);
    }

    #[test]
    fn a_name_is_answered_once_an_object() {
        let mut names = names();
        assert_eq!(read(&mut names, &["a", "a"]).0[1], Err(Repeated(Role::Column(0))));
        assert_eq!(read(&mut names, &["a", "a"]).0[1], Err(Repeated(Role::Column(0))));
        assert_eq!(read(&mut names, &["x", "a", "x"]).0[2], Err(Repeated(Role::Ignored)));
        assert_eq!(read(&mut names, &["a"]).0, vec![Ok(Role::Column(0))]);
    }

    #[test]
    fn names_beyond_the_bound_are_still_answered() {
        let mut names = names();
        let keys: Vec<String> = (0..2 * UNDECLARED_MAX).map(|i| format!("k{i}")).collect();
        let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert!(read(&mut names, &keys).0.iter().all(|r| *r == Ok(Role::Ignored)));
        assert!(names.names.len() <= 1 + 3 + UNDECLARED_MAX);
        keys.push("k511");
        assert_eq!(read(&mut names, &keys).0.last(), Some(&Err(Repeated(Role::Ignored))));
        assert_eq!(read(&mut names, &["CVV"]).0, vec![Ok(Role::Sensitive)]);
    }
}
