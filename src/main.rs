//! The binary: everything is in the library, but for the allocator.

use std::process::ExitCode;

/// Rows are allocated on one thread and freed on another. The C library's allocator keeps an arena a thread and gives back
/// only what is free at an arena's end: after an hour it held 830 MB of which 57 MB were in use. This one returns pages
/// that nobody used for ten seconds, wherever they lie, from a thread of its own.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    lakeward::cli::main()
}
