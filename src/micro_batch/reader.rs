//! One line becomes one row of the input columns, or leaves no trace in them.
//!
//! The one law: after each line all columns have the same length. Where the line came from is not known here.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::ArrayRef;

use super::input::{InputColumn, Scratch};
use super::names::{FieldNames, Repeated, Role};
use super::rejects::{Reason, Refusal};
use super::scanner::{DEPTH_MAX, Key, ScanError, ScanErrorKind, Scanner};
use crate::contract::{Origin, TableContract};
use crate::error::{Error, Result};
use crate::token::Tokenizer;

/// The columns that are read from fields, in the contract's order, being filled.
pub(super) struct RowReader {
    names: FieldNames,
    columns: Vec<InputColumn>,
    rows: usize,
    scratch: Scratch,
    cards: Tokenizer,
}

impl RowReader {
    /// # Errors
    /// [`Error::Usage`] for two columns of one field, or a column that no field can fill.
    pub(super) fn new(contract: &TableContract, cards: Tokenizer) -> Result<Self> {
        let mut columns = Vec::new();
        let mut fields: BTreeSet<Arc<str>> = BTreeSet::new();
        for column in &contract.columns {
            let Origin::Field(field) = &column.origin else { continue };
            if !fields.insert(Arc::clone(&field.name)) {
                return Err(Error::usage(format!(
                    "contract `{}`: two columns read the field `{}`; make one of them GENERATED ALWAYS AS the other",
                    contract.name, field.name
                )));
            }
            let is_identity = contract.stream.as_ref().is_some_and(|stream| stream.identity == column.name);
            columns.push(InputColumn::new(column, field, is_identity)?);
        }
        let declared: Vec<Arc<str>> = columns.iter().map(|c| Arc::clone(c.field())).collect();
        Ok(Self { names: FieldNames::new(&declared), columns, rows: 0, scratch: Scratch::default(), cards })
    }

    /// Appends the row of one JSON object.
    pub(super) fn read(&mut self, line: &str) -> Result<(), Refusal> {
        match self.fill(line) {
            Ok(()) => {
                self.rows += 1;
                Ok(())
            }
            Err(refusal) => {
                for column in &mut self.columns {
                    column.truncate(self.rows);
                }
                Err(refusal)
            }
        }
    }

    /// The arrays of all rows read since the last call.
    pub(super) fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.rows = 0;
        self.columns.iter_mut().map(InputColumn::finish).collect()
    }

    fn fill(&mut self, line: &str) -> Result<(), Refusal> {
        self.names.begin();
        let mut scanner = Scanner::open(line).map_err(not_scanned)?;
        let mut filled = 0;
        loop {
            let role = match scanner.key(self.names.predicted()).map_err(not_scanned)? {
                Key::Predicted => self.names.take_predicted(),
                Key::Other(key) => self.names.take(key.resolve(&mut self.scratch.unescaped)),
                Key::End => break,
            };
            let role = role.map_err(|repeated| self.repeated(repeated))?;
            if role == Role::Sensitive {
                return Err(Refusal::new(Reason::SensitiveAuthenticationData, "a field of this name must not be sent"));
            }
            let start = scanner.at();
            let value = scanner.value().map_err(not_scanned)?;
            if let Role::Column(index) = role {
                let column = &mut self.columns[index];
                column
                    .push(value, &mut self.scratch, &mut self.cards)
                    .map_err(|refusal| Refusal { blot: column.is_token().then(|| start..scanner.at()), ..refusal })?;
                filled += 1;
            }
        }
        scanner.finish().map_err(not_scanned)?;
        if filled < self.columns.len() {
            for column in self.columns.iter_mut().filter(|c| c.len() == self.rows) {
                column.push_missing()?;
            }
        }
        Ok(())
    }

    #[cold]
    fn repeated(&self, Repeated(role): Repeated) -> Refusal {
        match role {
            Role::Column(index) => {
                Refusal::of_field(Reason::DuplicateField, self.columns[index].field(), "this field stands twice")
            }
            Role::Ignored | Role::Sensitive => Refusal::new(Reason::DuplicateField, "an undeclared field stands twice"),
        }
    }
}

#[cold]
fn not_scanned(error: ScanError) -> Refusal {
    let at = error.at;
    match error.kind {
        ScanErrorKind::Expected(what) => {
            Refusal::new(Reason::MalformedJson, format!("{what} was expected at byte {at}"))
        }
        ScanErrorKind::NotAnObject => Refusal::new(Reason::NotAnObject, "an object like {\"field\": value} is wanted"),
        ScanErrorKind::TooDeep => Refusal::new(Reason::TooDeep, format!("more than {DEPTH_MAX} levels at byte {at}")),
        ScanErrorKind::Sensitive => {
            Refusal::new(Reason::SensitiveAuthenticationData, "a field of this name must not be sent")
        }
    }
}
