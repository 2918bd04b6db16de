//! Partitions of a `_spectrum` table: Spectrum reads those it was told of, and says nothing of others.
//!
//! The one law: what an answer says of single partitions counts, not that it came. One that exists, or is gone, is what was
//! wanted.
//!
//! Limits are Glue's: 100 partitions in a call that creates or updates, 25 in one that deletes.

use std::collections::BTreeSet;

use aws_sdk_glue::types;

use super::Catalog;
use super::client::{EXISTS, IS_GONE, failed};
use super::table::{is_same, storage};
use crate::contract::TableContract;
use crate::ddl::glue::{self, PARTITIONS_MAX};
use crate::error::{Context, Error, Result};

/// Of one BatchDeletePartition.
const DELETIONS_MAX: usize = 25;

/// Partitions as they are registered.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Dates.
    pub registered: BTreeSet<String>,
    /// Those with live files whose columns or place are others.
    pub different: Vec<String>,
}

impl Catalog {
    /// Reads every page; only dates stay in memory.
    pub(super) async fn partitions(
        &self,
        contract: &TableContract,
        table: &str,
        dates: &BTreeSet<String>,
    ) -> Result<Found> {
        let mut found = Found::default();
        let call = self.client.get_partitions().database_name(&self.site.database).table_name(table);
        let mut pages = call.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| {
                failed("GetPartitions", &format!("listing the partitions of `{}`", self.full(table)), &error)
            })?;
            for partition in page.partitions() {
                let Some(date) = partition.values().first() else { continue };
                if dates.contains(date) {
                    let wanted = glue::partition(&self.site, contract, date)?;
                    if !partition.storage_descriptor().is_some_and(|s| is_same(s, &wanted.storage_descriptor)) {
                        found.different.push(date.clone());
                    }
                }
                found.registered.insert(date.clone());
            }
        }
        Ok(found)
    }

    /// Registers partitions.
    pub(super) async fn create(&self, contract: &TableContract, table: &str, dates: &[&String]) -> Result<()> {
        let what = || format!("registering partitions of `{}`", self.full(table));
        for some in dates.chunks(PARTITIONS_MAX) {
            let inputs = some.iter().map(|date| self.input(contract, date)).collect::<Result<Vec<_>>>()?;
            let call = self.client.batch_create_partition().database_name(&self.site.database).table_name(table);
            let answer = call.set_partition_input_list(Some(inputs)).send().await;
            let answer = answer.map_err(|error| failed("BatchCreatePartition", &what(), &error))?;
            // It may have been registered by hand, in another place.
            let exist: Vec<String> = answer
                .errors()
                .iter()
                .filter(|error| is(error.error_detail(), EXISTS))
                .filter_map(|error| error.partition_values().first().cloned())
                .collect();
            refused(&what(), answer.errors().iter().map(types::PartitionError::error_detail), EXISTS)?;
            self.update(contract, table, &exist).await?;
        }
        Ok(())
    }

    /// Brings registered partitions to the table's columns and place.
    pub(super) async fn update(&self, contract: &TableContract, table: &str, dates: &[String]) -> Result<()> {
        let what = || format!("changing partitions of `{}`", self.full(table));
        for some in dates.chunks(PARTITIONS_MAX) {
            let entry = |date: &String| {
                let entry = types::BatchUpdatePartitionRequestEntry::builder().partition_value_list(date);
                entry.partition_input(self.input(contract, date)?).build().context(what)
            };
            let entries = some.iter().map(entry).collect::<Result<Vec<_>>>()?;
            let call = self.client.batch_update_partition().database_name(&self.site.database).table_name(table);
            let answer = call.set_entries(Some(entries)).send().await;
            let answer = answer.map_err(|error| failed("BatchUpdatePartition", &what(), &error))?;
            refused(&what(), answer.errors().iter().map(types::BatchUpdatePartitionFailureEntry::error_detail), "")?;
        }
        Ok(())
    }

    /// Drops partitions.
    pub(super) async fn drop_partitions(&self, table: &str, dates: &[&String]) -> Result<()> {
        let what = || format!("dropping partitions of `{}`", self.full(table));
        for some in dates.chunks(DELETIONS_MAX) {
            let values = some.iter().map(|date| types::PartitionValueList::builder().values(*date).build());
            let values = values.collect::<std::result::Result<Vec<_>, _>>().context(what)?;
            let call = self.client.batch_delete_partition().database_name(&self.site.database).table_name(table);
            let answer = call.set_partitions_to_delete(Some(values)).send().await;
            let answer = answer.map_err(|error| failed("BatchDeletePartition", &what(), &error))?;
            refused(&what(), answer.errors().iter().map(types::PartitionError::error_detail), IS_GONE)?;
        }
        Ok(())
    }

    fn input(&self, contract: &TableContract, date: &str) -> Result<types::PartitionInput> {
        let input = glue::partition(&self.site, contract, date)?;
        let storage = storage(&input.storage_descriptor).context(|| format!("describing the partition {date}"))?;
        Ok(types::PartitionInput::builder().set_values(Some(input.values)).storage_descriptor(storage).build())
    }

    fn full(&self, table: &str) -> String {
        format!("{}.{table}", self.site.database)
    }
}

fn is(detail: Option<&types::ErrorDetail>, code: &str) -> bool {
    detail.and_then(types::ErrorDetail::error_code) == Some(code)
}

/// An error naming the first partition's refusal that is no `fine` one, and how many there are.
fn refused<'a>(what: &str, errors: impl Iterator<Item = Option<&'a types::ErrorDetail>>, fine: &str) -> Result<()> {
    let errors: Vec<_> = errors.filter(|detail| !is(*detail, fine)).collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let (code, message) = first.map_or((None, None), |detail| (detail.error_code(), detail.error_message()));
    let (code, message) = (code.unwrap_or("an error without a code"), message.unwrap_or_default());
    Err(Error::external(format!("Glue: {what}"), format!("{} refused, first: {code}: {message}", errors.len())))
}
