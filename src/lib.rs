//! Lakeward: Kinesis micro-batches become Arrow batches, windowed SQL on DataFusion computes aggregates, and everything
//! lands once in Delta tables that Athena, Redshift Spectrum and Glue crawlers read directly.
//!
//! The modules stand in the order data takes, which is the order of dependency: each imports only from those above it,
//! and [`pipeline`] is the only place that wires them together.

pub mod error;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod permission;
mod syntax;
pub mod contract;
pub mod token;
pub mod stream;
pub mod files;
pub mod kinesis;
pub mod micro_batch;
pub mod sql;
pub mod window;
pub mod lake;
pub mod lint;
pub mod manifest;
pub mod plain;
pub mod lookups;
pub mod epoch;
pub mod vacuum;
pub mod plans;
pub mod ddl;
pub mod catalog;
pub mod batch;
pub mod audit;
pub mod cost;
pub mod simulate;
pub mod pipeline;
pub mod query_test;
pub mod cli;

pub use error::{Error, Result};
