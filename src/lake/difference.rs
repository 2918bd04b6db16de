//! How a table of the lake differs from its contract: what it can follow, and what stops the start, both sides drawn.
//!
//! The one law: every difference is named, by column, with what is declared and what is there. Nothing here changes a
//! table (see `evolve`).

use datafusion::sql::sqlparser::tokenizer::Span;

use super::schema::Layout;
use crate::contract::{TableContract, type_name};
use crate::error::{Error, Refusal, Result};

/// What to do about a table that differs from a contract file.
pub(super) const PUT_BACK: &str = "put the contract back, or use another `lake.url`";

/// What to do about one whose columns the query alone says.
pub(super) const SELECT_AGAIN: &str = "select it again in the query as it was, or give the view another name";

/// How a table can follow its contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evolution {
    /// Nullable columns it gets.
    pub(super) added: Vec<String>,
    /// Of those, one that stands before a column the table has, and that column.
    pub(super) inside: Option<(String, String)>,
    /// Columns that may be NULL from now on.
    pub(super) relaxed: Vec<String>,
}

impl Evolution {
    /// Whether the columns stay as they are.
    pub(super) fn is_none(&self) -> bool {
        self.added.is_empty() && self.relaxed.is_empty()
    }

    /// What makes a table as found one as declared, if added columns and dropped NOT NULLs do.
    pub(super) fn between(declared: &Layout, found: &Layout) -> Option<Self> {
        if declared.partition_name() != found.partition_name() {
            return None;
        }
        let (mut added, mut inside, mut relaxed) = (Vec::<String>::new(), None, Vec::new());
        let mut left = found.schema.fields().iter();
        for field in declared.schema.fields() {
            match found.schema.field_with_name(field.name()) {
                Err(_) if field.is_nullable() => added.push(field.name().clone()),
                Err(_) => return None,
                Ok(there) => {
                    let in_order = left.next().is_some_and(|next| next.name() == field.name());
                    if !in_order || there.data_type() != field.data_type() {
                        return None;
                    }
                    if let (None, Some(before)) = (&inside, added.last()) {
                        inside = Some((before.clone(), field.name().clone()));
                    }
                    match (field.is_nullable(), there.is_nullable()) {
                        (true, false) => relaxed.push(field.name().clone()),
                        (false, true) => return None,
                        _ => {}
                    }
                }
            }
        }
        left.next().is_none().then_some(Self { added, inside, relaxed })
    }
}

/// Refuses a column that is added before one the table has.
pub(super) fn check_last(contract: &TableContract, evolution: &Evolution) -> Result<()> {
    let Some((column, before)) = &evolution.inside else { return Ok(()) };
    let name = &contract.name;
    let message =
        format!("table `{name}`: the column `{column}` is added before `{before}`, which the lake has already");
    let last = contract
        .columns
        .iter()
        .map(|column| column.name.as_ref())
        .rfind(|name| !evolution.added.contains(&(*name).to_owned()));
    let help = format!("put it behind the last column, `{}`", last.unwrap_or(before));
    let refusal = Refusal::new(Span::empty(), message).help(match contract.stream {
        Some(_) => help,
        None => format!("{help}, or take `spectrum` out of the contract's `sinks`"),
    });
    let why =
        "Redshift goes by the order of columns, and older files have it as it was; a record says what is new last";
    Err(Error::Usage(refusal.note(why).into()))
}

/// Refuses a table whose columns or partitioning differ from what is declared: names every difference, and draws both
/// sides column by column; `help` is what to do.
pub(super) fn check_same(name: &str, declared: &Layout, found: &Layout, help: &str) -> Result<()> {
    let mut differences = Vec::new();
    for field in declared.schema.fields() {
        let (column, data_type) = (field.name(), type_name(field.data_type()));
        match found.schema.field_with_name(column) {
            Err(_) => differences.push(format!("column `{column}` {data_type} is missing in the lake")),
            Ok(there) if there.data_type() != field.data_type() => {
                let there = type_name(there.data_type());
                differences.push(format!("column `{column}` is declared {data_type}, but {there} in the lake"));
            }
            Ok(there) if there.is_nullable() != field.is_nullable() => {
                let null = |nullable| if nullable { "nullable" } else { "NOT NULL" };
                let (declared, found) = (null(field.is_nullable()), null(there.is_nullable()));
                differences.push(format!("column `{column}` is declared {declared}, but {found} in the lake"));
            }
            Ok(_) => {}
        }
    }
    for field in found.schema.fields() {
        if declared.schema.field_with_name(field.name()).is_err() {
            differences.push(format!("column `{}` {} is only in the lake", field.name(), type_name(field.data_type())));
        }
    }
    if declared.partition_name() != found.partition_name() {
        let (declared, found) = (declared.partition_name(), found.partition_name());
        differences.push(format!("it is declared to be partitioned by `{declared}`, but is by `{found}` in the lake"));
    }
    if differences.is_empty() && declared.schema.fields() != found.schema.fields() {
        let order =
            |layout: &Layout| layout.schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(", ");
        let (declared, found) = (order(declared), order(found));
        differences.push(format!("its columns are declared in the order {declared}, but are in the lake as {found}"));
    }
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!("table `{name}` differs from its contract: {}", differences.join("; "));
    let refusal = Refusal::new(Span::empty(), message)
        .help(help)
        .note("tables of the stream and of queries take in added columns that may be NULL, those of queries drop NOT NULL; nothing else")
        .note(side_by_side(declared, found));
    Err(Error::Usage(refusal.into()))
}

/// Contract and lake, a line a column in the contract's order, `!` where they differ.
fn side_by_side(declared: &Layout, found: &Layout) -> String {
    let shown = |layout: &Layout, column: &str| match layout.schema.field_with_name(column) {
        Err(_) => "-".to_owned(),
        Ok(field) => format!("{}{}", type_name(field.data_type()), if field.is_nullable() { "" } else { " NOT NULL" }),
    };
    let only_found = found.schema.fields().iter().filter(|f| declared.schema.field_with_name(f.name()).is_err());
    let columns = declared.schema.fields().iter().chain(only_found).map(|field| field.name().as_str());
    let mut rows: Vec<[String; 3]> =
        columns.map(|column| [column.to_owned(), shown(declared, column), shown(found, column)]).collect();
    let sort = |layout: &Layout| if layout.sort.is_empty() { "-".to_owned() } else { layout.sort_by() };
    rows.push(["(partition by)".to_owned(), declared.partition_name().into(), found.partition_name().into()]);
    rows.push(["(sort by)".to_owned(), sort(declared), sort(found)]);
    let head = ["column", "contract", "lake"].map(str::to_owned);
    let width = |column: usize| {
        rows.iter().chain(std::iter::once(&head)).map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let (names, sides) = (width(0), width(1));
    let line = |row: &[String; 3]| {
        let mark = if row[1] == row[2] || *row == head { ' ' } else { '!' };
        format!("{mark} {:<names$}  {:<sides$}  {}", row[0], row[1], row[2]).trim_end().to_owned()
    };
    std::iter::once(&head).chain(&rows).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::super::testing;
    use super::*;

    #[test]
    fn a_difference_is_named_column_by_column() {
        let declared = Layout::of_contract(&testing::contract("payments")).unwrap();
        check_same("payments", &declared, &declared, PUT_BACK).unwrap();
        let mut contract = testing::contract("payments");
        contract.columns.retain(|column| column.name.as_ref() != "card");
        contract.columns.iter_mut().find(|c| c.name.as_ref() == "amount").unwrap().data_type = DataType::Int64;
        let found = Layout::of_contract(&contract).unwrap();
        let error = check_same("payments", &declared, &found, PUT_BACK).unwrap_err().to_string();
        assert!(error.contains("column `card` STRING is missing in the lake"), "{error}");
        assert!(error.contains("column `amount` is declared DECIMAL(20,2), but BIGINT in the lake"), "{error}");
        let error = check_same("payments", &found, &declared, PUT_BACK).unwrap_err().to_string();
        assert!(error.contains("column `card` STRING is only in the lake"), "{error}");
    }

    #[test]
    fn both_sides_are_drawn() {
        let mut contract = testing::contract("payments");
        contract.columns.truncate(5);
        contract.sort_by = vec!["card".into()];
        let declared = Layout::of_contract(&contract).unwrap();
        contract.columns[4].nullable = true;
        contract.columns.remove(2);
        contract.stream = None;
        let found = Layout::of_contract(&contract).unwrap();
        let drawn = "  column          contract                lake\n  \
            event_time      TIMESTAMP NOT NULL      TIMESTAMP NOT NULL\n  \
            event_date      DATE NOT NULL           DATE NOT NULL\n\
            ! payment_id      STRING NOT NULL         -\n  \
            card            STRING NOT NULL         STRING NOT NULL\n\
            ! amount          DECIMAL(20,2) NOT NULL  DECIMAL(20,2)\n  \
            (partition by)  event_date              event_date\n  \
            (sort by)       card                    card";
        assert_eq!(side_by_side(&declared, &found), drawn);
    }

    #[test]
    fn another_order_of_columns_is_a_difference() {
        let declared = Layout::of_contract(&testing::contract("payments")).unwrap();
        let mut contract = testing::contract("payments");
        contract.columns.reverse();
        let found = Layout::of_contract(&contract).unwrap();
        let error = check_same("payments", &declared, &found, PUT_BACK).unwrap_err().to_string();
        assert!(error.contains("in the order"), "{error}");
    }
}
