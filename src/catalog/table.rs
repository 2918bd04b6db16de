//! The database and its tables: made if they are missing, changed if something of ours is otherwise.
//!
//! The one law: parameters that are not ours are sent back as they came, because Athena, crawlers and people keep things
//! there.

use std::collections::HashMap;

use aws_sdk_glue::error::ProvideErrorMetadata;
use aws_sdk_glue::types;

use super::Catalog;
use super::client::{EXISTS, IS_GONE, failed};
use crate::ddl::glue::{ColumnInput, DATABASE, StorageInput, TableInput};
use crate::error::{Context, Result};

impl Catalog {
    /// Makes the database if there is none.
    pub(super) async fn ensure_database(&self) -> Result<()> {
        let name = &self.site.database;
        let error = match self.client.get_database().name(name).send().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if error.code() != Some(IS_GONE) {
            return Err(failed("GetDatabase", &format!("looking for the database `{name}`"), &error));
        }
        let what = format!("making the database `{name}`");
        let input = types::DatabaseInput::builder()
            .name(name)
            .description(DATABASE)
            .location_uri(format!("{}/", self.site.location))
            .build()
            .context(|| what.clone())?;
        match self.client.create_database().database_input(input).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(EXISTS) => Ok(()),
            Err(error) => Err(failed("CreateDatabase", &what, &error)),
        }
    }

    /// Makes a table, or changes it to what it should be. Answers whether anything was sent.
    pub(super) async fn ensure_table(&self, input: &TableInput) -> Result<bool> {
        let what = format!("registering the table `{}.{}`", self.site.database, input.name);
        let Some(found) = self.table(input).await? else {
            let made = table_input(input, None).context(|| what.clone())?;
            let call = self.client.create_table().database_name(&self.site.database).table_input(made);
            return match call.send().await {
                Ok(_) => Ok(true),
                // An earlier attempt whose answer was lost, or another process with the same contract.
                Err(error) if error.code() == Some(EXISTS) => Ok(true),
                Err(error) => Err(failed("CreateTable", &what, &error)),
            };
        };
        if !differs(&found, input) {
            return Ok(false);
        }
        let changed = table_input(input, Some(&found)).context(|| what.clone())?;
        let call = self.client.update_table().database_name(&self.site.database).table_input(changed);
        call.send().await.map_err(|error| failed("UpdateTable", &what, &error))?;
        Ok(true)
    }

    /// Lets go of a table of the lake: `<t>` and `<t>_spectrum` with its partitions. Answers how many there were.
    ///
    /// # Errors
    /// [`crate::Error::External`] when Glue refuses or does not answer; call again.
    pub async fn let_go(&self, table: &str) -> Result<u64> {
        let mut dropped = 0;
        for name in [format!("{table}_spectrum"), table.to_owned()] {
            match self.client.delete_table().database_name(&self.site.database).name(&name).send().await {
                Ok(_) => dropped += 1,
                Err(error) if error.code() == Some(IS_GONE) => {}
                Err(error) => {
                    let what = format!("letting go of the table `{}.{name}`", self.site.database);
                    return Err(failed("DeleteTable", &what, &error));
                }
            }
        }
        self.known.lock().await.remove(table);
        Ok(dropped)
    }

    /// A table as it is registered.
    pub(super) async fn table(&self, input: &TableInput) -> Result<Option<types::Table>> {
        let call = self.client.get_table().database_name(&self.site.database).name(&input.name);
        match call.send().await {
            Ok(found) => Ok(found.table),
            Err(error) if error.code() == Some(IS_GONE) => Ok(None),
            Err(error) => {
                let what = format!("looking for the table `{}.{}`", self.site.database, input.name);
                Err(failed("GetTable", &what, &error))
            }
        }
    }
}

/// Whether something that is ours is otherwise.
pub(super) fn differs(found: &types::Table, input: &TableInput) -> bool {
    let keys: Vec<ColumnInput> = found.partition_keys().iter().map(column_of).collect();
    let none = HashMap::new();
    let parameters = found.parameters().unwrap_or(&none);
    found.description().unwrap_or_default() != input.description
        || found.table_type() != Some(input.table_type)
        || keys != input.partition_keys
        || !found.storage_descriptor().is_some_and(|storage| is_same(storage, &input.storage_descriptor))
        // Values are read without regard to case; Athena writes `delta` where its manual says `DELTA`.
        || input.parameters.iter().any(|(key, value)| {
            !parameters.get(*key).is_some_and(|found| found.eq_ignore_ascii_case(value))
        })
}

/// Whether a table or partition lies and is read as it should.
pub(super) fn is_same(found: &types::StorageDescriptor, wanted: &StorageInput) -> bool {
    let serde = found.serde_info();
    let none = HashMap::new();
    let parameters = serde.and_then(types::SerDeInfo::parameters).unwrap_or(&none);
    found.columns().iter().map(column_of).eq(wanted.columns.iter().cloned())
        && found.location() == Some(&wanted.location)
        && found.input_format() == Some(wanted.input_format)
        && found.output_format() == Some(wanted.output_format)
        && serde.and_then(types::SerDeInfo::serialization_library) == Some(wanted.serde_info.serialization_library)
        && wanted.serde_info.parameters.iter().all(|(key, value)| parameters.get(*key) == Some(value))
}

fn column_of(column: &types::Column) -> ColumnInput {
    let comment = column.comment().filter(|comment| !comment.is_empty()).map(str::to_owned);
    ColumnInput { name: column.name().to_owned(), data_type: column.r#type().unwrap_or_default().to_owned(), comment }
}

type Built<T> = std::result::Result<T, aws_sdk_glue::error::BuildError>;

/// As it is sent; with what others had added to the parameters of `found`.
fn table_input(input: &TableInput, found: Option<&types::Table>) -> Built<types::TableInput> {
    let mut parameters = found.and_then(types::Table::parameters).cloned().unwrap_or_default();
    parameters.extend(input.parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    types::TableInput::builder()
        .name(&input.name)
        .description(&input.description)
        .set_owner(found.and_then(types::Table::owner).map(str::to_owned))
        .set_retention(found.map(types::Table::retention).filter(|retention| *retention > 0))
        .table_type(input.table_type)
        .set_parameters(Some(parameters))
        .set_partition_keys(Some(columns(&input.partition_keys)?))
        .storage_descriptor(storage(&input.storage_descriptor)?)
        .build()
}

pub(super) fn storage(input: &StorageInput) -> Built<types::StorageDescriptor> {
    let parameters = input.serde_info.parameters.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    let serde = types::SerDeInfo::builder()
        .serialization_library(input.serde_info.serialization_library)
        .set_parameters(Some(parameters.collect()));
    Ok(types::StorageDescriptor::builder()
        .set_columns(Some(columns(&input.columns)?))
        .location(&input.location)
        .input_format(input.input_format)
        .output_format(input.output_format)
        .serde_info(serde.build())
        .build())
}

fn columns(inputs: &[ColumnInput]) -> Built<Vec<types::Column>> {
    let built = inputs.iter().map(|input| {
        let column = types::Column::builder().name(&input.name).r#type(&input.data_type);
        column.set_comment(input.comment.clone()).build()
    });
    built.collect()
}
