//! Lineage against the bugs others shipped, by name, and against random families of shards.

use proptest::prelude::*;

use super::*;
use crate::stream::SequenceNumber;

fn shard(id: &str, parents: &[&str]) -> ListedShard {
    ListedShard { id: id.into(), parents: parents.iter().map(|&parent| parent.into()).collect() }
}

fn after(number: &str) -> Position {
    Position::After(SequenceNumber::Kinesis(number.into()))
}

fn progress(position: Position, finished: bool, parents: &[&str]) -> ShardProgress {
    let parents = parents.iter().map(|&parent| parent.into()).collect();
    ShardProgress { position, finished, parents, watermark: None }
}

fn resume(shards: &[(&str, ShardProgress)]) -> BTreeMap<ShardId, ShardProgress> {
    shards.iter().map(|(id, progress)| ((*id).into(), progress.clone())).collect()
}

fn new_stream(listing: &[ListedShard]) -> Lineage {
    let mut lineage = Lineage::new(Position::TrimHorizon, &BTreeMap::new());
    lineage.discover(listing.to_vec()).unwrap();
    lineage
}

fn ids(startable: &[Startable]) -> Vec<&str> {
    startable.iter().map(|shard| &*shard.id).collect()
}

fn finish(lineage: &mut Lineage, id: &str) {
    lineage.ended(&id.into(), after("1"));
    lineage.decided_finished(&id.into());
}

/// zio-kinesis #902.
#[test]
fn a_child_is_not_read_while_its_parent_is_active() {
    let mut lineage = new_stream(&[shard("a", &[]), shard("b", &["a"]), shard("c", &["a"])]);
    assert_eq!(ids(&lineage.startable()), ["a"]);
    assert!(lineage.startable().is_empty());
    lineage.ended(&"a".into(), after("1"));
    assert!(lineage.startable().is_empty(), "its end is read but not decided");
    lineage.decided_finished(&"a".into());
    let children = lineage.startable();
    assert_eq!(ids(&children), ["b", "c"]);
    assert!(children.iter().all(|child| child.position == Position::TrimHorizon));
}

/// async-kinesis 3.0.3.
#[test]
fn a_merged_child_waits_for_both_parents() {
    let mut lineage = new_stream(&[shard("a", &[]), shard("b", &[]), shard("c", &["a", "b"])]);
    assert_eq!(ids(&lineage.startable()), ["a", "b"]);
    finish(&mut lineage, "a");
    assert!(lineage.startable().is_empty());
    finish(&mut lineage, "b");
    assert_eq!(ids(&lineage.startable()), ["c"]);
}

/// Quickwit #5912.
#[test]
fn a_child_is_created_once_however_often_it_is_announced() {
    let listing = [shard("a", &[]), shard("b", &["a"])];
    let mut lineage = new_stream(&listing);
    assert_eq!(ids(&lineage.startable()), ["a"]);
    finish(&mut lineage, "a");
    assert_eq!(ids(&lineage.startable()), ["b"]);
    lineage.discover(listing.to_vec()).unwrap();
    lineage.decided_finished(&"a".into());
    lineage.discover(listing.to_vec()).unwrap();
    assert!(lineage.startable().is_empty());
}

/// A parent's end may name a child before ListShards does, or after; it begins once.
#[test]
fn a_child_that_is_named_is_awaited_until_it_is_listed() {
    let mut lineage = new_stream(&[shard("a", &[]), shard("b", &["a"])]);
    assert_eq!(ids(&lineage.startable()), ["a"]);
    finish(&mut lineage, "a");
    lineage.names(BTreeSet::from(["b".into()]));
    assert!(!lineage.awaits_children(), "it was listed before");
    lineage.names(BTreeSet::from(["b".into(), "c".into()]));
    assert!(lineage.awaits_children());
    assert_eq!(ids(&lineage.startable()), ["b"]);
    lineage.discover(vec![shard("a", &[]), shard("b", &["a"])]).unwrap();
    assert!(lineage.awaits_children());
    lineage.discover(vec![shard("a", &[]), shard("b", &["a"]), shard("c", &["a"])]).unwrap();
    assert!(!lineage.awaits_children());
    assert_eq!(ids(&lineage.startable()), ["c"]);
}

/// Beam #20563.
#[test]
fn a_restart_two_generations_later_reads_every_generation_between() {
    let saved = resume(&[("a", progress(after("5"), false, &[]))]);
    let mut lineage = Lineage::new(Position::TrimHorizon, &saved);
    lineage.discover(vec![shard("a", &[]), shard("b", &["a"]), shard("c", &["b"]), shard("d", &["b"])]).unwrap();
    let first = lineage.startable();
    assert_eq!((ids(&first), &first[0].position), (vec!["a"], &after("5")));
    finish(&mut lineage, "a");
    assert_eq!(ids(&lineage.startable()), ["b"]);
    finish(&mut lineage, "b");
    assert_eq!(ids(&lineage.startable()), ["c", "d"]);
}

/// FLINK-8484.
#[test]
fn closed_shards_are_not_read_again_after_a_restart() {
    let listing = vec![shard("a", &[]), shard("b", &["a"]), shard("c", &["b"]), shard("d", &["b"])];
    let saved = resume(&[
        ("a", progress(after("1"), true, &[])),
        ("b", progress(after("2"), true, &["a"])),
        ("c", progress(after("3"), false, &["b"])),
    ]);
    let mut lineage = Lineage::new(Position::TrimHorizon, &saved);
    lineage.discover(listing.clone()).unwrap();
    assert_eq!(ids(&lineage.startable()), ["c", "d"]);

    // The same when the slot has forgotten what ended long ago.
    let mut lineage = Lineage::new(Position::TrimHorizon, &resume(&[("c", progress(after("3"), false, &["b"]))]));
    lineage.discover(listing).unwrap();
    assert_eq!(ids(&lineage.startable()), ["c", "d"]);
}

/// KCL #662.
#[test]
fn a_mass_reshard_from_400_to_300_starts_every_child() {
    let mut listing: Vec<ListedShard> = (0..400).map(|n| shard(&format!("old-{n:03}"), &[])).collect();
    for n in 0..300 {
        let parents = [format!("old-{:03}", n * 4 / 3), format!("old-{:03}", (n * 4 + 3) / 3)];
        listing.push(shard(&format!("young-{n:03}"), &[&parents[0], &parents[1]]));
    }
    let mut lineage = new_stream(&listing);
    let parents = lineage.startable();
    assert_eq!(parents.len(), 400);
    let mut children = 0;
    for parent in parents {
        finish(&mut lineage, &parent.id);
        children += lineage.startable().len();
    }
    assert_eq!(children, 300);
}

#[test]
fn parents_that_expired_before_the_stream_was_first_read_are_not_waited_for() {
    let mut lineage = new_stream(&[shard("c", &["a", "b"]), shard("d", &["c"])]);
    let started = lineage.startable();
    assert_eq!((ids(&started), &started[0].position), (vec!["c"], &Position::TrimHorizon));
}

#[test]
fn a_saved_open_shard_that_is_not_listed_is_a_gap() {
    let mut lineage = Lineage::new(Position::TrimHorizon, &resume(&[("a", progress(after("5"), false, &[]))]));
    let error = lineage.discover(vec![shard("b", &["a"])]).unwrap_err().to_string();
    assert!(error.contains("`a`") && error.contains("lake.url"), "{error}");
}

#[test]
fn a_generation_that_came_and_expired_while_stopped_is_a_gap() {
    let saved = resume(&[("a", progress(after("5"), true, &[]))]);
    let mut lineage = Lineage::new(Position::TrimHorizon, &saved);
    let error = lineage.discover(vec![shard("c", &["b"])]).unwrap_err();
    assert!(matches!(&error, Error::Usage(_)) && error.to_string().contains("`b`"), "{error}");
}

#[test]
fn all_that_is_gone_is_named_at_once_and_its_children_start_when_it_counts_as_over() {
    let mut saved = resume(&[("a", progress(after("5"), false, &[])), ("x", progress(after("1"), true, &[]))]);
    let listing = vec![shard("c", &["a"]), shard("d", &["b"]), shard("e", &["b"]), shard("y", &["x", "w"])];
    let mut lineage = Lineage::new(Position::TrimHorizon, &saved);
    lineage.list(listing.clone());
    let gone = lineage.gone();
    assert_eq!(gone.iter().map(|id| &**id).collect::<Vec<_>>(), ["a", "b", "w"]);
    saved.extend(gone.into_iter().map(|id| (id, progress(Position::TrimHorizon, true, &[]))));
    let mut lineage = Lineage::new(Position::TrimHorizon, &saved);
    lineage.discover(listing).unwrap();
    assert_eq!(ids(&lineage.startable()), ["c", "d", "e", "y"]);
}

#[test]
fn a_child_that_expires_before_it_was_read_is_a_gap() {
    let mut lineage = new_stream(&[shard("a", &[]), shard("b", &["a"])]);
    lineage.startable();
    assert!(lineage.discover(vec![shard("a", &[])]).is_err());
}

#[test]
fn a_finished_shard_may_leave_the_listing() {
    let mut lineage = new_stream(&[shard("a", &[]), shard("b", &["a"])]);
    lineage.startable();
    lineage.ended(&"a".into(), after("1"));
    lineage.discover(vec![shard("b", &["a"])]).unwrap();
    lineage.decided_finished(&"a".into());
    assert_eq!(ids(&lineage.startable()), ["b"]);
}

#[test]
fn a_child_takes_over_the_time_its_parents_never_reached() {
    let start = Position::AtTimestamp(7);
    let listing = vec![shard("a", &[]), shard("b", &["a"]), shard("x", &[]), shard("y", &["x"])];
    let mut lineage = Lineage::new(start.clone(), &BTreeMap::new());
    lineage.discover(listing).unwrap();
    assert!(lineage.startable().iter().all(|root| root.position == start));
    lineage.ended(&"a".into(), start.clone());
    lineage.decided_finished(&"a".into());
    finish(&mut lineage, "x");
    let children = lineage.startable();
    assert_eq!(ids(&children), ["b", "y"]);
    assert_eq!(children[0].position, start, "`b` may hold records from before");
    assert_eq!(children[1].position, Position::TrimHorizon, "`x` was read past that time, so `y` is younger");
}

#[test]
fn a_decision_may_overtake_the_news_of_the_end() {
    let mut lineage = new_stream(&[shard("a", &[]), shard("b", &["a"])]);
    lineage.startable();
    lineage.decided_finished(&"a".into());
    assert!(lineage.startable().is_empty());
    lineage.ended(&"a".into(), after("1"));
    assert_eq!(ids(&lineage.startable()), ["b"]);
}

/// A family: each step splits one open shard or merges two.
fn family(roots: usize, steps: &[(bool, usize)]) -> Vec<ListedShard> {
    let name = |n: usize| format!("shard-{n:03}");
    let mut all: Vec<ListedShard> = (0..roots).map(|n| shard(&name(n), &[])).collect();
    let mut open: Vec<usize> = (0..roots).collect();
    for &(split, pick) in steps {
        let first = open.remove(pick % open.len());
        if split || open.is_empty() {
            for _ in 0..2 {
                open.push(all.len());
                all.push(shard(&name(all.len()), &[&name(first)]));
            }
        } else {
            let second = open.remove(pick % open.len());
            open.push(all.len());
            all.push(shard(&name(all.len()), &[&name(first), &name(second)]));
        }
    }
    all
}

proptest! {
    /// However the news arrives and wherever the run is cut, every shard is read, once, after its parents were decided.
    #[test]
    fn every_shard_is_read_once_after_its_parents(
        roots in 1_usize..5,
        steps in prop::collection::vec((any::<bool>(), any::<usize>()), 0..20),
        choices in prop::collection::vec((any::<usize>(), 0_u8..6), 0..200),
    ) {
        let family = family(roots, &steps);
        let parents: BTreeMap<ShardId, BTreeSet<ShardId>> =
            family.iter().map(|shard| (shard.id.clone(), shard.parents.clone())).collect();
        let closed: BTreeSet<ShardId> = parents.values().flatten().cloned().collect();
        let mut saved: BTreeMap<ShardId, ShardProgress> = BTreeMap::new();
        let mut lineage = new_stream(&family);
        let mut reading: BTreeSet<ShardId> = BTreeSet::new();
        let mut undecided: Vec<ShardId> = Vec::new();
        let mut choices = choices.into_iter();
        loop {
            for started in lineage.startable() {
                for parent in &parents[&started.id] {
                    prop_assert!(saved.get(parent).is_some_and(|p| p.finished), "{} before {parent}", started.id);
                }
                prop_assert!(saved.get(&started.id).is_none_or(|p| !p.finished), "{} read again", started.id);
                prop_assert!(reading.insert(started.id.clone()), "{} started twice", started.id);
                let parents = started.parents.iter().map(|parent| &**parent).collect::<Vec<_>>();
                saved.entry(started.id).or_insert_with(|| progress(started.position, false, &parents));
            }
            let ending: Vec<ShardId> = reading.iter().filter(|id| closed.contains(*id)).cloned().collect();
            if ending.is_empty() && undecided.is_empty() {
                break;
            }
            let (pick, what) = choices.next().unwrap_or((0, u8::from(!undecided.is_empty())));
            match what {
                0 | 3 if !ending.is_empty() => {
                    let id = ending[pick % ending.len()].clone();
                    reading.remove(&id);
                    lineage.ended(&id, after("1"));
                    undecided.push(id);
                }
                1 | 4 if !undecided.is_empty() => {
                    let id = undecided.remove(pick % undecided.len());
                    saved.get_mut(&id).expect("it was started").finished = true;
                    lineage.decided_finished(&id);
                }
                2 => lineage.discover(family.clone()).unwrap(),
                5 => {
                    // A restart: only what was decided is known.
                    lineage = Lineage::new(Position::TrimHorizon, &saved);
                    lineage.discover(family.clone()).unwrap();
                    (reading, undecided) = (BTreeSet::new(), Vec::new());
                }
                _ => {}
            }
        }
        prop_assert_eq!(saved.len(), family.len(), "a shard was never read");
    }
}
