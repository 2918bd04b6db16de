//! What the pipeline does with a source, without what it does with records: takes shards, joins pages, decides ends.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use crate::error::Error;
use crate::stream::{Aggregate, Interval, Page, Position, ShardEvent, ShardId, ShardProgress, SourceHandle};

/// What happened, in order, whichever shard it happened on.
#[derive(Debug)]
pub enum News {
    Opened(ShardId),
    Page,
    CaughtUp(ShardId),
    Finished(ShardId),
}

/// A reader being read.
pub struct Pipeline {
    pub handle: SourceHandle,
    /// Data of every record, in the order of each shard.
    pub read: BTreeMap<ShardId, Vec<String>>,
    pub opened: BTreeMap<ShardId, BTreeSet<ShardId>>,
    pub finished: BTreeSet<ShardId>,
    intervals: BTreeMap<ShardId, Interval>,
    merged: mpsc::Receiver<(ShardId, ShardEvent)>,
    merge: mpsc::Sender<(ShardId, ShardEvent)>,
}

impl Pipeline {
    pub fn new(handle: SourceHandle) -> Self {
        let (merge, merged) = mpsc::channel(1);
        let (read, opened, finished, intervals) = Default::default();
        Self { handle, read, opened, finished, intervals, merged, merge }
    }

    /// The next thing that happens. Checks that pages join and that a shard is opened once.
    pub async fn next(&mut self) -> Result<News, Error> {
        tokio::select! {
            biased;
            Some(mut opened) = self.handle.opened.recv() => {
                let id = opened.key.shard.clone();
                assert!(self.opened.insert(id.clone(), opened.parents).is_none(), "`{id}` opened twice");
                self.intervals.insert(id.clone(), Interval::empty(opened.position));
                self.read.entry(id.clone()).or_default();
                let (merge, shard) = (self.merge.clone(), id.clone());
                tokio::spawn(async move {
                    while let Some(event) = opened.events.recv().await {
                        if merge.send((shard.clone(), event)).await.is_err() {
                            return;
                        }
                    }
                });
                Ok(News::Opened(id))
            }
            Some((id, event)) = self.merged.recv() => match event {
                ShardEvent::Page(page) => self.take(&id, &page),
                ShardEvent::CaughtUp => Ok(News::CaughtUp(id)),
                ShardEvent::Finished => {
                    assert!(self.finished.insert(id.clone()), "`{id}` finished twice");
                    Ok(News::Finished(id))
                }
                ShardEvent::Failed(error) => Err(error),
            },
        }
    }

    fn take(&mut self, id: &ShardId, page: &Page) -> Result<News, Error> {
        assert_eq!(&page.shard.shard, id);
        self.intervals.get_mut(id).expect("it was opened").join(&page.interval)?;
        let last = page.records.last().expect("a page holds records");
        assert_eq!(page.interval.to, Position::After(last.sequence.clone()));
        assert!(page.records.is_sorted_by(|a, b| a.sequence < b.sequence));
        let read = self.read.get_mut(id).expect("it was opened");
        for record in &page.records {
            let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
            match Aggregate::of(&record.data) {
                None => read.push(text(&record.data)),
                Some(aggregate) => read.extend(aggregate.records().map(|record| text(record.data))),
            }
        }
        Ok(News::Page)
    }

    /// Goes on until `count` records are read in all.
    pub async fn until_read(&mut self, count: usize) {
        while self.count() < count {
            self.next().await.unwrap();
        }
    }

    /// Goes on, deciding every end at once, until `count` records are read and `finished` shards have ended.
    pub async fn deciding_until(&mut self, count: usize, finished: usize) {
        while self.count() < count || self.finished.len() < finished {
            if let News::Finished(id) = self.next().await.unwrap() {
                self.decide(&id);
            }
        }
    }

    /// Goes on until the shard is at its tip, once more: two empty answers in a row.
    pub async fn until_caught_up(&mut self, shard: &str) {
        for _ in 0..2 {
            while !matches!(self.next().await.unwrap(), News::CaughtUp(id) if &*id == shard) {}
        }
    }

    pub fn decide(&self, id: &ShardId) {
        self.handle.decided_finished.send(id.clone()).unwrap();
    }

    pub fn count(&self) -> usize {
        self.read.values().map(Vec::len).sum()
    }

    /// Records read, each counted once.
    pub fn distinct(&self) -> usize {
        self.read.values().flatten().collect::<BTreeSet<_>>().len()
    }

    /// All that was read, sorted.
    pub fn all(&self) -> Vec<String> {
        let mut all: Vec<String> = self.read.values().flatten().cloned().collect();
        all.sort_unstable();
        all
    }

    /// What a slot would say.
    pub fn progress(&self) -> BTreeMap<ShardId, ShardProgress> {
        let progress = self.intervals.iter().map(|(id, interval)| {
            let progress = ShardProgress {
                position: interval.to.clone(),
                finished: self.finished.contains(id),
                parents: self.opened[id].clone(),
                watermark: None,
            };
            (id.clone(), progress)
        });
        progress.collect()
    }

    /// Stops reading; the reader must end well.
    pub async fn stop(self) {
        self.handle.stop.cancel();
        self.handle.task.await.unwrap().unwrap();
    }
}

/// Records put, as read: data, sorted.
pub fn expected(records: &[crate::kinesis::PutRecord]) -> Vec<String> {
    let mut all: Vec<String> = records.iter().map(|record| String::from_utf8(record.data.to_vec()).unwrap()).collect();
    all.sort_unstable();
    all
}

/// Asserts that each key's records are in order within each of these shards.
pub fn assert_order_per_key<'a>(shards: impl IntoIterator<Item = &'a Vec<String>>) {
    for read in shards {
        let mut last: BTreeMap<&str, &str> = BTreeMap::new();
        for text in read {
            let (key, number) = text.split_once(' ').unwrap();
            if let Some(before) = last.insert(key, number) {
                assert!(before < number, "{key}: {number} after {before}");
            }
        }
    }
}
