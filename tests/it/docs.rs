//! What the documentation shows runs: every view in it is planned beside the shipped queries, every batch statement runs.

use std::fs;
use std::path::Path;

use crate::support::Scratch;

/// The fenced SQL blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match (&mut open, line.trim_end()) {
            (None, "```sql") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

#[test]
fn every_view_in_the_documentation_is_planned() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new();
    let folder = scratch.path("queries");
    fs::create_dir_all(folder.join("lookups")).unwrap();
    for (from, to) in [("queries", folder.clone()), ("docs/lookups", folder.join("lookups"))] {
        for entry in fs::read_dir(root.join(from)).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_file() {
                fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
            }
        }
    }
    let mut views = 0;
    for page in fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()) {
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        for block in blocks(&fs::read_to_string(&page).unwrap()) {
            if block.contains("CREATE MATERIALIZED VIEW") {
                views += 1;
                fs::write(folder.join(format!("documented_{views}.sql")), block).unwrap();
            }
        }
    }
    assert!(views >= 10, "only {views} views in the documentation");
    let scratch = scratch.set(&format!("queries.dir={}", folder.display()));
    let said = scratch.must(&["check"]);
    assert!(said.lines().filter(|line| line.ends_with(": ok")).count() > views, "{said}");
}
