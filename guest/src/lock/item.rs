//! The lock item: the record as the attribute `Info` of an item of the table. Its mark is that attribute, as it stands.

use crate::contract::Error;
use crate::dynamodb::{Attribute, DynamoDb, ItemCondition};
use crate::failure::{Context, ErrorExt};
use crate::lock_record;
use crate::operation::Failed;
use crate::platform::Platform;

use super::protocol::{Found, Place};

/// Stands before the record in a mark: an item without a record has a mark, too.
const RECORD: char = '=';

pub(super) struct LockItem<'a, P> {
    table: &'a DynamoDb<'a, P>,
    context: &'a Context<'a>,
    key: String,
}

impl<'a, P> LockItem<'a, P> {
    /// The one with this key.
    pub(super) fn new(table: &'a DynamoDb<'a, P>, context: &'a Context<'a>, key: &str) -> Self {
        Self {
            table,
            context,
            key: key.to_owned(),
        }
    }
}

impl<P: Platform> Place for LockItem<'_, P> {
    fn name(&self) -> &'static str {
        "dynamodb"
    }

    fn shown(&self) -> String {
        format!("the item {:?} of {}", self.key, self.context.the_table())
    }

    fn argument(&self) -> &'static str {
        "dynamodb_table"
    }

    fn locate(&self, error: Error) -> Error {
        error
            .fact("table", self.table.table)
            .fact("item", &self.key)
    }

    fn create(&self, record: &str) -> Result<Option<String>, Failed> {
        let condition = ItemCondition::Absent;
        self.table
            .put(&self.key, Attribute::Info, record, condition)?;
        Ok(Some(mark(Some(record))))
    }

    fn read(&self) -> Result<Option<Found>, Failed> {
        let item = self.table.get(&self.key, Attribute::Info)?;
        Ok(item.map(|item| Found {
            info: item
                .value
                .as_deref()
                .and_then(|record| lock_record::from_json(record.as_bytes())),
            mark: Some(mark(item.value.as_deref())),
        }))
    }

    fn delete(&self, mark: Option<&str>) -> Result<(), Failed> {
        let condition = match mark {
            Some(mark) => ItemCondition::Holds(mark.strip_prefix(RECORD)),
            None => ItemCondition::Anything,
        };
        self.table
            .delete(&self.key, Attribute::Info, condition)
            .map(drop)
    }

    fn pause_after_collision(&self, round: u32) -> bool {
        self.table.client.pause_after_collision(round)
    }
}

fn mark(record: Option<&str>) -> String {
    match record {
        Some(record) => format!("{RECORD}{record}"),
        None => "-".to_owned(),
    }
}
