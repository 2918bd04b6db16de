//! One binary for every integration test: DataFusion is linked once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod cards;
mod damage;
mod end_to_end;
mod fraud;
mod golden;
mod house;
mod kill;
mod oracle;
mod rivals;
mod second_stream;
mod support;
mod victim;
mod views;
