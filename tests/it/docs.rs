//! What the documentation shows runs: every view in it is planned beside the shipped queries, every batch statement runs over
//! a lake they have answered.

use std::collections::BTreeSet;
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

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<String> {
    let files = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = files.filter(|file| file.extension().is_some_and(|extension| extension == "md"));
    pages.map(|page| fs::read_to_string(page).unwrap()).collect()
}

fn is_view(block: &str) -> bool {
    block.contains("CREATE MATERIALIZED VIEW")
}

/// A scratch with the shipped queries and every view of the documentation; and how many those are.
fn documented() -> (Scratch, usize) {
    let scratch = Scratch::new();
    let folder = scratch.path("queries");
    fs::create_dir_all(folder.join("lookups")).unwrap();
    for (from, to) in [("queries", folder.clone()), ("docs/lookups", folder.join("lookups"))] {
        for entry in fs::read_dir(root().join(from)).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_file() {
                fs::copy(&entry, to.join(entry.file_name().unwrap())).unwrap();
            }
        }
    }
    let views: BTreeSet<String> = pages().iter().flat_map(|page| blocks(page)).filter(|block| is_view(block)).collect();
    for (number, view) in views.iter().enumerate() {
        fs::write(folder.join(format!("documented_{number}.sql")), view).unwrap();
    }
    (scratch.set(&format!("queries.dir={}", folder.display())), views.len())
}

#[test]
fn every_view_in_the_documentation_is_planned() {
    let (scratch, views) = documented();
    assert!(views >= 10, "only {views} views in the documentation");
    let said = scratch.must(&["check"]);
    assert!(said.lines().filter(|line| line.ends_with(": ok")).count() > views, "{said}");
}

#[test]
fn every_batch_statement_in_the_documentation_runs() {
    let (scratch, _) = documented();
    let file = scratch.simulated("day.csv", 2_000);
    scratch.summary(&["--source", file.to_str().unwrap()]);
    let (mut statements, mut files) = (0, 0);
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for page in pages().into_iter().chain([readme]) {
        let fenced = blocks(&page).into_iter().filter(|block| !is_view(block));
        // What a shell is given stands between double quotes.
        let typed =
            page.lines().filter_map(|line| Some(line.split_once("lakeward sql \"")?.1.split_once('"')?.0.to_owned()));
        for statement in fenced.chain(typed) {
            scratch.must(&["sql", &statement]);
            statements += 1;
        }
        // Of a standing query it wants a stretch of time, which has its own tests.
        let jobs = page.lines().filter_map(|line| line.trim_start().strip_prefix("lakeward batch "));
        for job in jobs.filter(|job| !job.contains("--from")) {
            scratch.must(&["batch", job.split_whitespace().next().unwrap()]);
            files += 1;
        }
    }
    assert!(statements >= 5 && files >= 1, "only {statements} statements and {files} files in the documentation");
}
