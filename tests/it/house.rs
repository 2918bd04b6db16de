//! The house's own rules: dependency order is tree order, every file says what it owns.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The modules of `lib.rs`, in the order they stand there.
fn modules() -> Vec<String> {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod ")))
        .map(|rest| rest.trim_end_matches(';').to_owned())
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            files.extend(rust_files(&entry));
        } else if entry.extension().is_some_and(|e| e == "rs") {
            files.push(entry);
        }
    }
    files.sort();
    files
}

/// Names after `crate::` in code (comments left out), the grouped form `crate::{a, b}` included.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            // Of `crate::a::{b, c}` only `a` is a module.
            let first = rest.split(',').next().unwrap();
            let list = rest.strip_prefix('{').map_or(first, |group| group.split('}').next().unwrap());
            for item in list.split(',') {
                names.insert(item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
        }
    }
    names
}

#[test]
fn a_module_imports_only_from_those_above_it() {
    let modules = modules();
    assert!(modules.len() > 10, "lib.rs was not understood: {modules:?}");
    let mut checked = 0;
    for (rank, module) in modules.iter().enumerate() {
        let folder = source().join(module);
        let mut files = if folder.is_dir() { rust_files(&folder) } else { Vec::new() };
        files.extend(Some(source().join(format!("{module}.rs"))).filter(|f| f.is_file()));
        assert!(!files.is_empty(), "no file for the module `{module}`");
        for file in files {
            checked += 1;
            for name in imports(&fs::read_to_string(&file).unwrap()) {
                if let Some(other) = modules.iter().position(|m| *m == name) {
                    assert!(other <= rank, "{} imports `{name}`, which stands below `{module}`", file.display());
                }
            }
        }
    }
    assert!(checked > 20, "only {checked} files were looked at");
}

#[test]
fn every_file_opens_by_saying_what_it_owns() {
    for file in rust_files(&source()) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} has no module doc", file.display());
    }
}
