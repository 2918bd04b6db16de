//! A lake to be damaged: its slots, logs and data files rewritten so that they agree with each other, or on purpose not.

use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::Scratch;

/// A copy of a sound lake, to be damaged.
pub struct Victim {
    pub scratch: Scratch,
}

impl Victim {
    pub fn copy_of(sound: &Scratch, scratch: Scratch) -> Self {
        copy_folder(&sound.lake(), &scratch.lake());
        Self { scratch }
    }

    pub fn table(&self, table: &str) -> PathBuf {
        self.scratch.lake().join(table)
    }

    // Slots.

    pub fn slot_path(&self, epoch: u64) -> PathBuf {
        self.scratch.lake().join(format!("_epochs/{epoch:020}.json"))
    }

    pub fn slots(&self) -> Vec<u64> {
        let names = fs::read_dir(self.scratch.lake().join("_epochs")).unwrap().map(|e| e.unwrap().file_name());
        let mut epochs: Vec<u64> =
            names.filter_map(|name| name.to_str()?.strip_suffix(".json")?.parse().ok()).collect();
        epochs.sort_unstable();
        epochs
    }

    pub fn head(&self) -> u64 {
        *self.slots().last().unwrap()
    }

    pub fn slot(&self, epoch: u64) -> Value {
        serde_json::from_slice(&fs::read(self.slot_path(epoch)).unwrap()).unwrap()
    }

    /// The n-th slot that wrote transactions, counted from 0.
    pub fn epoch(&self, n: usize) -> u64 {
        let wrote = |epoch: &u64| self.slot(*epoch)["tables"].get("transactions").is_some();
        self.slots().into_iter().filter(wrote).nth(n).expect("so many epochs")
    }

    pub fn edit_slot(&self, epoch: u64, edit: impl FnOnce(&mut Value)) {
        let mut slot = self.slot(epoch);
        edit(&mut slot);
        fs::write(self.slot_path(epoch), serde_json::to_vec(&slot).unwrap()).unwrap();
    }

    /// Takes time from what `city_minute` has closed by the newest slot.
    pub fn lower_closed_until(&self, by: i64) {
        self.edit_slot(self.head(), |slot| {
            let until = &mut slot["queries"]["city_minute"]["closed_until"];
            *until = json!(until.as_i64().unwrap() - by);
        });
        self.relink();
    }

    /// Links every slot to the bytes of the one before it.
    pub fn relink(&self) {
        self.relink_after(0);
    }

    pub fn relink_after(&self, first: u64) {
        for epoch in self.slots().into_iter().filter(|epoch| *epoch > first) {
            let before = hex::encode(Sha256::digest(fs::read(self.slot_path(epoch - 1)).unwrap()));
            if self.slot(epoch)["previous_sha256"] != before.as_str() {
                self.edit_slot(epoch, |slot| slot["previous_sha256"] = json!(before));
            }
        }
    }

    // Logs.

    pub fn commit_path(&self, table: &str, version: u64) -> PathBuf {
        self.table(table).join(format!("_delta_log/{version:020}.json"))
    }

    pub fn newest_version(&self, table: &str) -> u64 {
        (0..).take_while(|version| self.commit_path(table, *version).exists()).last().unwrap()
    }

    pub fn commit_of(&self, table: &str, path: &Path) -> PathBuf {
        let relative = self.relative(table, path);
        let commits = (0..=self.newest_version(table)).map(|version| self.commit_path(table, version));
        commits.into_iter().find(|commit| fs::read_to_string(commit).unwrap().contains(&relative)).unwrap()
    }

    pub fn edit_commit_of(&self, table: &str, path: &Path, edit: impl FnOnce(String) -> String) {
        let commit = self.commit_of(table, path);
        let edited = edit(fs::read_to_string(&commit).unwrap());
        fs::write(commit, edited).unwrap();
    }

    pub fn add_of(&self, table: &str, path: &Path) -> Value {
        let relative = self.relative(table, path);
        let text = fs::read_to_string(self.commit_of(table, path)).unwrap();
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.find(|line| line["add"]["path"] == relative.as_str()).unwrap()["add"].take()
    }

    // Data files.

    /// A table's files in the order of their epochs, then of their partitions.
    pub fn files(&self, table: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for folder in fs::read_dir(self.table(table)).unwrap().map(|e| e.unwrap().path()) {
            // Log and manifests begin with an underscore.
            if folder.is_dir() && !folder.file_name().unwrap().to_str().unwrap().starts_with('_') {
                files.extend(fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()));
            }
        }
        // `part-<epoch>-…` below the folder of a date; what follows the epoch is random.
        let epoch = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap()[..25].to_owned();
        files.sort_by_key(|path| (epoch(path), path.parent().unwrap().to_owned()));
        files
    }

    pub fn file(&self, table: &str, n: usize) -> PathBuf {
        self.files(table).swap_remove(n)
    }

    pub fn relative(&self, table: &str, path: &Path) -> String {
        path.strip_prefix(self.table(table)).unwrap().to_str().unwrap().to_owned()
    }

    pub fn read_parquet(&self, path: &Path) -> RecordBatch {
        let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
        let schema = reader.schema().clone();
        let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        concat_batches(&schema, &batches).unwrap()
    }

    pub fn write_parquet(&self, path: &Path, rows: &RecordBatch) {
        let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), rows.schema(), None).unwrap();
        writer.write(rows).unwrap();
        writer.close().unwrap();
    }

    /// Changes the n-th data file of a table, and makes log and slots agree with it.
    pub fn rewrite(&self, table: &str, n: usize, change: impl FnOnce(&RecordBatch) -> RecordBatch) {
        let path = self.file(table, n);
        let changed = change(&self.read_parquet(&path));
        self.write_parquet(&path, &changed);
        self.note_file(table, &path, Some(changed.num_rows()));
    }

    /// Writes a file's size, and its number of rows if given, into its commit and its slot.
    pub fn note_file(&self, table: &str, path: &Path, rows: Option<usize>) {
        let (relative, size) = (self.relative(table, path), fs::metadata(path).unwrap().len());
        let note = |add: &mut Value| {
            add["size"] = json!(size);
            if let Some(rows) = rows {
                let mut stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
                stats["numRecords"] = json!(rows);
                add["stats"] = json!(stats.to_string());
            }
        };
        self.edit_commit_of(table, path, |text| {
            let lines = text.lines().map(|line| {
                let mut line: Value = serde_json::from_str(line).unwrap();
                if line["add"]["path"] == relative.as_str() {
                    note(&mut line["add"]);
                }
                // Indexing an absent member for reading leaves no trace.
                format!("{line}\n")
            });
            lines.collect()
        });
        for epoch in self.slots() {
            let slot = self.slot(epoch);
            let Some(adds) = slot["tables"][table]["adds"].as_array() else { continue };
            let Some(place) = adds.iter().position(|add| add["path"] == relative.as_str()) else { continue };
            self.edit_slot(epoch, |slot| {
                let table = &mut slot["tables"][table];
                note(&mut table["adds"][place]);
                let sum = |of: &dyn Fn(&Value) -> u64| table["adds"].as_array().unwrap().iter().map(of).sum::<u64>();
                let bytes = sum(&|add| add["size"].as_u64().unwrap());
                let rows = sum(&|add| {
                    let stats: Value = serde_json::from_str(add["stats"].as_str().unwrap()).unwrap();
                    stats["numRecords"].as_u64().unwrap()
                });
                (table["bytes"], table["rows"]) = (json!(bytes), json!(rows));
            });
        }
        self.relink();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
