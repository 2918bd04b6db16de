//! One binary for every integration test: DataFusion is linked once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod aggregates;
mod cards;
mod catalog;
mod corrections;
mod damage;
mod ddl;
mod docs;
mod drop;
mod end_to_end;
mod errors;
mod events;
mod faults;
mod fraud;
mod fuzz;
mod gap;
mod golden;
mod house;
mod kill;
mod lake_check;
mod late_hops;
mod layout;
mod lookups;
mod maintenance;
mod manifests;
mod matrix;
mod moto;
mod oracle;
mod plain;
mod query_tests;
mod readers;
mod removal;
mod resharding;
mod restate;
mod rivals;
mod s3;
mod second_stream;
mod skew;
mod strangers;
mod support;
mod vacuum;
mod victim;
mod views;
mod window_joins;
