//! One writer a local lake: an operating system lock on `<lake>/_lock`, which holds the writer's pid for people.
//!
//! The one law: the lock is the kernel's, not the file's content; it goes with the process, also after `kill -9`.
//! It guards one machine. Writers on others are fenced by generations in the epoch slots.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::error::{Context, Error, Result};

/// Held by the one writer of a lake; released when dropped.
#[derive(Debug)]
pub struct LakeLock {
    /// Closing it unlocks it. The file stays: removing it would let two processes lock two files of one name.
    _file: File,
}

impl LakeLock {
    pub(super) fn take(path: &Path) -> Result<Self> {
        let what = || format!("cannot lock `{}`", path.display());
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).context(what)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(path, &mut file)),
            Err(TryLockError::Error(e)) => return Err(Error::external(what(), e)),
        }
        file.set_len(0).and_then(|()| file.rewind()).context(what)?;
        writeln!(file, "{}", std::process::id()).context(what)?;
        Ok(Self { _file: file })
    }
}

/// Names the process that holds the lock.
fn taken(path: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    // The holder may be between locking and writing its pid; then nobody can be named.
    let pid = match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("process {}", text.trim()),
        _ => "another process".to_owned(),
    };
    Error::Fenced(format!(
        "{pid} is already writing to this lake (`{}`); stop it first, or use another `lake.url`",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_refused_by_pid_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("_lock");
        std::fs::write(&path, "a pid left by a process that was killed, longer than any pid").unwrap();
        let first = LakeLock::take(&path).unwrap();
        let error = LakeLock::take(&path).unwrap_err();
        let says = format!("process {} is already writing", std::process::id());
        assert!(matches!(&error, Error::Fenced(m) if m.starts_with(&says)), "{error}");
        drop(first);
        LakeLock::take(&path).unwrap();
    }
}
