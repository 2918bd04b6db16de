//! Which files are written together in one step.
//!
//! The one law: a step is bounded, in files, so that its slot stays small, and in bytes, so that it ends soon and what a
//! kill wastes is little; and each step leaves fewer small files than it found, so that steps come to an end. Files
//! nobody here wrote are left alone: who wrote them may be about to take them out.

use std::sync::Arc;

use crate::lake::DataFile;

/// Files of one step: the slot names each in about three hundred bytes.
const FILES_MAX: usize = 512;
/// Bytes of one step as they lie in files: some ten seconds of one core, and a few times as many bytes of temporary files.
const BYTES_MAX: u64 = 512 << 20;
/// Partitions of one step.
const PARTITIONS_MAX: usize = 64;
/// Small files of one partition that may wait although they are little beside the largest: a few late ones after a
/// compaction, as many as `lake check` accepts.
const SPARED_FILES_MAX: usize = 8;
/// Before they are that many, small files are worth the rewriting of a larger one once they have this part of its bytes.
const SHARE_MIN: u64 = 8;

/// How soon a partition is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline) enum Haste {
    /// As soon as two files are small: somebody asked.
    AtOnce,
    /// When it pays: late rows that trickle in must not rewrite their date again and again.
    WhenItPays,
}

/// Files of one partition to be written together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    /// Days since 1970-01-01.
    pub partition: i32,
    pub files: Vec<Arc<DataFile>>,
    /// Whether these are all the small files it has.
    pub is_whole: bool,
}

/// The next step's share of a table's files, which come by partition, then by epoch.
pub(super) fn choose(
    files: &[Arc<DataFile>],
    small_bytes: u64,
    is_wanted: impl Fn(i32) -> bool,
    haste: Haste,
) -> Vec<Choice> {
    let (mut choices, mut count, mut bytes) = (Vec::new(), 0, 0);
    for partition in files.chunk_by(|a, b| a.partition == b.partition).filter(|files| is_wanted(files[0].partition)) {
        let small = partition.iter().filter(|file| file.bytes < small_bytes && file.epoch.is_some());
        let small: Vec<Arc<DataFile>> = small.cloned().collect();
        if !is_due(&small, haste) {
            continue;
        }
        let mut fitting = fitting(&small, FILES_MAX - count, BYTES_MAX.saturating_sub(bytes));
        if choices.is_empty() {
            // Fewer would leave as many; where files are huge, small ones are, too.
            fitting = fitting.max(2);
        }
        let is_whole = fitting == small.len();
        // The first one is cut if it must be; others wait for the next step.
        if !is_whole && !choices.is_empty() {
            break;
        }
        count += fitting;
        bytes += small[..fitting].iter().map(|file| file.bytes).sum::<u64>();
        choices.push(Choice { partition: partition[0].partition, files: small[..fitting].to_vec(), is_whole });
        if !is_whole || choices.len() == PARTITIONS_MAX {
            break;
        }
    }
    choices
}

fn is_due(small: &[Arc<DataFile>], haste: Haste) -> bool {
    let largest = small.iter().map(|file| file.bytes).max().unwrap_or(0);
    let others = small.iter().map(|file| file.bytes).sum::<u64>() - largest;
    let pays = small.len() > SPARED_FILES_MAX || others.saturating_mul(SHARE_MIN) >= largest;
    small.len() > 1 && (haste == Haste::AtOnce || pays)
}

/// How many of the files, in their order, fit into a step.
fn fitting(files: &[Arc<DataFile>], files_max: usize, bytes_max: u64) -> usize {
    let mut bytes = 0;
    let fits = |file: &&Arc<DataFile>| {
        bytes += file.bytes;
        bytes <= bytes_max
    };
    files.iter().take(files_max).take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u64 = 96 << 20;

    fn files(of: &[(i32, u64, u64)]) -> Vec<Arc<DataFile>> {
        of.iter().map(|&(partition, epoch, bytes)| Arc::new(DataFile::made(partition, epoch, bytes))).collect()
    }

    fn chosen(files: &[Arc<DataFile>], before: i32, haste: Haste) -> Vec<(i32, usize, bool)> {
        let choices = choose(files, SMALL, |day| day < before, haste);
        choices.into_iter().map(|choice| (choice.partition, choice.files.len(), choice.is_whole)).collect()
    }

    #[test]
    fn small_files_of_wanted_partitions_are_chosen_and_large_and_single_ones_left() {
        let mut all =
            files(&[(1, 1, 10), (1, 2, SMALL), (1, 3, 10), (2, 1, 10), (3, 1, 5), (3, 2, 5), (4, 1, 5), (4, 2, 5)]);
        assert_eq!(chosen(&all, 4, Haste::AtOnce), [(1, 2, true), (3, 2, true)]);
        // What nobody here wrote is not ours to take out.
        let mut foreign = DataFile::made(5, 1, 10);
        foreign.epoch = None;
        all.push(Arc::new(foreign));
        all.push(Arc::new(DataFile::made(5, 2, 10)));
        assert_eq!(chosen(&all[8..], 9, Haste::AtOnce), []);
    }

    #[test]
    fn a_few_little_files_beside_a_larger_one_wait_until_it_pays() {
        let with = |count: u64, bytes: u64| {
            let all: Vec<_> = (0..count).map(|epoch| (1, epoch + 1, bytes)).collect();
            files(&[vec![(1, 0, 64 << 20)], all].concat())
        };
        assert_eq!(chosen(&with(7, 10), 9, Haste::WhenItPays), []);
        assert_eq!(chosen(&with(7, 10), 9, Haste::AtOnce), [(1, 8, true)]);
        assert_eq!(chosen(&with(8, 10), 9, Haste::WhenItPays), [(1, 9, true)]);
        assert_eq!(chosen(&with(1, 8 << 20), 9, Haste::WhenItPays), [(1, 2, true)]);
    }

    #[test]
    fn steps_are_bounded_and_come_to_an_end() {
        // A first date of thousands of files, one of many bytes, and a hundred of two files each.
        let mut all: Vec<(i32, u64, u64)> = (0..3_000).map(|epoch| (0, epoch, 1 << 10)).collect();
        all.extend((0..40).map(|epoch| (1, epoch, 60 << 20)));
        all.extend((2..102).flat_map(|day| [(day, 0, 10), (day, 1, 10)]));
        let (mut steps, mut epoch) = (0, 5_000);
        loop {
            let found = choose(&files(&all), SMALL, |_| true, Haste::AtOnce);
            if found.is_empty() {
                break;
            }
            let count: usize = found.iter().map(|choice| choice.files.len()).sum();
            let bytes: u64 = found.iter().flat_map(|choice| &choice.files).map(|file| file.bytes).sum();
            assert!(count <= FILES_MAX && bytes <= BYTES_MAX && found.len() <= PARTITIONS_MAX);
            for choice in &found {
                let gone = |file: &(i32, u64, u64)| {
                    choice.files.iter().any(|f| (f.partition, f.epoch, f.bytes) == (file.0, Some(file.1), file.2))
                };
                let bytes = choice.files.iter().map(|file| file.bytes).sum();
                all.retain(|file| !gone(file));
                all.push((choice.partition, epoch, bytes));
            }
            all.sort_unstable();
            (steps, epoch) = (steps + 1, epoch + 1);
        }
        assert!((10..60).contains(&steps), "{steps} steps");
        assert!((0..102).all(|day| all.iter().filter(|(d, _, bytes)| *d == day && *bytes < SMALL).count() <= 1));
    }

    #[test]
    fn two_files_are_a_step_however_large_they_may_be() {
        let all = files(&[(1, 1, 500 << 20), (1, 2, 500 << 20), (1, 3, 500 << 20)]);
        let choices = choose(&all, 600 << 20, |_| true, Haste::AtOnce);
        assert_eq!((choices[0].files.len(), choices[0].is_whole), (2, false));
    }
}
