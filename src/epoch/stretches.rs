//! Stretches of epochs: which epochs' rows something has seen, or lacks.
//!
//! The one law: stretches are in order and apart, however they came together, so two that hold the same epochs are equal.

use serde::{Deserialize, Serialize};

/// Epochs, as the first and the last of each stretch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epochs(Vec<(u64, u64)>);

impl Epochs {
    /// From `first` to `last`; none where that is before it.
    pub fn of(first: u64, last: u64) -> Self {
        Self(if first <= last { vec![(first, last)] } else { Vec::new() })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// First and last of each stretch, in order.
    pub fn stretches(&self) -> &[(u64, u64)] {
        &self.0
    }

    pub fn holds(&self, epoch: u64) -> bool {
        let next = self.0.partition_point(|(first, _)| *first <= epoch);
        next > 0 && epoch <= self.0[next - 1].1
    }

    /// The newest of them.
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|(_, last)| *last)
    }

    /// These and others.
    pub fn and(mut self, others: &Self) -> Self {
        self.0.extend(&others.0);
        self.0.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0 {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// These without others.
    pub fn without(self, others: &Self) -> Self {
        let mut left = Vec::with_capacity(self.0.len());
        for (first, last) in self.0 {
            let mut rest = Some(first);
            for &(from, to) in others.0.iter().filter(|(from, to)| *from <= last && first <= *to) {
                let Some(first) = rest else { break };
                left.extend((first < from).then(|| (first, from - 1)));
                rest = to.checked_add(1);
            }
            left.extend(rest.filter(|first| *first <= last).map(|first| (first, last)));
        }
        Self(left)
    }

    /// Those after an epoch.
    pub fn after(self, epoch: u64) -> Self {
        self.without(&Self::of(0, epoch))
    }
}

impl std::fmt::Display for Epochs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stretch = |(first, last): &(u64, u64)| match first == last {
            true => first.to_string(),
            false => format!("{first} to {last}"),
        };
        f.write_str(&self.0.iter().map(stretch).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn of(stretches: &[(u64, u64)]) -> Epochs {
        stretches.iter().fold(Epochs::default(), |all, (first, more)| all.and(&Epochs::of(*first, first + more)))
    }

    fn all(epochs: &Epochs) -> BTreeSet<u64> {
        (0..60).filter(|epoch| epochs.holds(*epoch)).collect()
    }

    proptest! {
        /// The oracle keeps every epoch.
        #[test]
        fn stretches_hold_what_sets_hold(
            one in prop::collection::vec((0u64..40, 0u64..9), 0..8),
            other in prop::collection::vec((0u64..40, 0u64..9), 0..8),
        ) {
            let (one, other) = (of(&one), of(&other));
            let (ones, others) = (all(&one), all(&other));
            prop_assert_eq!(all(&one.clone().and(&other)), &ones | &others);
            prop_assert_eq!(all(&one.clone().without(&other)), &ones - &others);
            prop_assert_eq!(one.clone().and(&other).without(&one), other.without(&one));
            prop_assert_eq!(one.is_empty(), ones.is_empty());
            prop_assert_eq!(one.last(), ones.last().copied());
            prop_assert!(one.stretches().windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }

    #[test]
    fn a_stretch_is_told_by_its_first_and_last() {
        assert_eq!(of(&[(3, 0), (7, 2), (10, 1)]).to_string(), "3, 7 to 11");
        assert_eq!(Epochs::of(4, 3), Epochs::default());
        assert_eq!(Epochs::of(0, u64::MAX).after(u64::MAX), Epochs::default());
        assert_eq!(Epochs::of(0, 9).after(4), Epochs::of(5, 9));
    }
}
