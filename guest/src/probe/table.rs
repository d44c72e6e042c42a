//! The steps on the DynamoDB table, which keeps locks and digests.

use serde_json::Value;

use crate::aws::http::Answer;
use crate::aws::retry::Cause;
use crate::dynamodb::{Attribute, DynamoDb, ItemCondition, PARTITION_KEY, TableDescription};
use crate::json;
use crate::operation::Operation;
use crate::platform::Platform;

use super::race::judge;
use super::report::{NOT_REACHED, Verdict};
use super::{Judged, Probe};

const SHAPE: &str = "table-shape";

/// What decides whether locks in the table hold. One that was not reached leaves it open.
const DECIDING: [&str; 3] = [
    "table-create-only-refused",
    "table-one-creator-wins",
    "table-conditional-delete",
];

impl<P: Platform> Probe<'_, P> {
    /// Looks at the table, and tries it out when that is asked for.
    pub(super) fn see_table(&mut self, try_out: bool) {
        let Some(table) = self.table else { return };
        let (status, key_schema_ok, detail) = match table.describe() {
            Ok(description) => self.judge_shape(&description),
            Err(failed) => {
                let told = self.words(&failed);
                let is_missing = failed
                    .failure
                    .is(|error| error.code() == "ResourceNotFoundException");
                if is_missing {
                    self.report.failed(SHAPE, Verdict::Unsafe, told.clone());
                } else {
                    // The steps that follow tell whether it works.
                    self.report.not_tested(SHAPE, Verdict::Safe, told.clone());
                }
                let key_schema_ok = if is_missing {
                    Value::Bool(false)
                } else {
                    Value::Null
                };
                (Value::Null, key_schema_ok, told)
            }
        };
        let is_usable = key_schema_ok != Value::Bool(false);
        self.report.dynamodb = json::object([
            ("table", table.table.into()),
            ("status", status),
            ("key_schema_ok", key_schema_ok),
            ("detail", detail.into()),
        ]);
        if !(try_out && is_usable) {
            return;
        }
        self.try_table(table);
        for name in DECIDING {
            if !self.report.has(name) {
                self.leave_open(name, NOT_REACHED.to_owned());
            }
        }
    }

    fn judge_shape(&mut self, description: &TableDescription) -> (Value, Value, String) {
        let status = description.status.as_str().into();
        let is_right = match description.key.as_slice() {
            [part] => part.name == PARTITION_KEY && part.kind == "S" && part.is_partition_key,
            _ => false,
        };
        if !is_right {
            let parts = description.key.iter().map(|part| {
                let role = if part.is_partition_key {
                    "partition"
                } else {
                    "sort"
                };
                format!("{role} key {} of type {}", part.name, part.kind)
            });
            let detail = format!(
                "Locks need a table whose whole key is the partition key {PARTITION_KEY} of type \
                 S (String). This one has: {}.",
                parts.collect::<Vec<_>>().join(", ")
            );
            self.report.failed(SHAPE, Verdict::Unsafe, detail.clone());
            return (status, false.into(), detail);
        }
        let detail = match description.status.as_str() {
            "ACTIVE" | "UPDATING" => {
                let detail = format!("The table's key is {PARTITION_KEY}, of type S (String).");
                self.report.ok(SHAPE, detail.clone());
                detail
            }
            other => {
                let detail = format!("The table is {other}, and not usable until it is ACTIVE.");
                self.report
                    .not_tested(SHAPE, Verdict::Unknown, detail.clone());
                detail
            }
        };
        (status, true.into(), detail)
    }

    fn try_table(&mut self, table: &DynamoDb<'_, P>) {
        if self.create_item(table) {
            self.race_to_create_item(table);
        }
        self.delete_item_conditionally(table);
    }

    /// Creates on condition that there is no item, where there is none and where there is one.
    fn create_item(&mut self, table: &DynamoDb<'_, P>) -> bool {
        let name = DECIDING[0];
        let created = self.insist(|probe| {
            let (item, first) = (probe.fresh_item(), probe.fresh_body());
            probe.put_item(table, &item, &first, ItemCondition::Absent)?;
            Ok((item, first))
        });
        let (item, first) = match created {
            Ok(created) => created,
            Err(cause) => {
                let item = self.item_stem();
                let told = self.told(Operation::PutItem, &item, &cause);
                self.leave_open(name, told);
                return false;
            }
        };
        let second = self.fresh_body();
        let answer =
            self.insist(|probe| probe.put_item(table, &item, &second, ItemCondition::Absent));
        let judged = self.judge(Operation::PutItem, &item, answer);
        let stored = self.stored_item(table, &item);
        match (judged, stored) {
            (Judged::Done, _) => self.report.failed(
                name,
                Verdict::Unsafe,
                "The table silently ignores the condition of PutItem: any number of writers would \
                 hold the same lock.",
            ),
            (Judged::Unsupported(told) | Judged::Unclear(told), _) => self.leave_open(name, told),
            (Judged::Refused, Err(told)) => self.leave_open(name, told),
            (Judged::Refused, Ok(stored)) if stored.as_ref() != Some(&first) => self.report.failed(
                name,
                Verdict::Unsafe,
                "The table says that it refuses to replace an item, and replaces it all the same.",
            ),
            (Judged::Refused, Ok(_)) => {
                self.report
                    .ok(name, "An item that is there is not created over.");
                return true;
            }
        }
        false
    }

    fn race_to_create_item(&mut self, table: &DynamoDb<'_, P>) {
        let name = DECIDING[1];
        self.race(name, "attribute_not_exists", &mut |probe| {
            let item = probe.fresh_item();
            let records = probe.bodies();
            let bodies: Vec<_> = records
                .iter()
                .map(|record| {
                    let condition = ItemCondition::Absent;
                    json::text(&table.put_body(&item, Attribute::Info, record, condition))
                })
                .collect();
            let requests: Vec<_> = bodies
                .iter()
                .map(|body| table.request(Operation::PutItem, body))
                .collect();
            let answers = probe.client.send_all_once(&requests);
            let stored = table
                .get(&item, Attribute::Info)
                .map_err(|failed| failed.failure.cause)?
                .and_then(|item| item.value);
            let winner = records.iter().position(|it| Some(it) == stored.as_ref());
            Ok(judge(&answers, winner))
        });
    }

    /// Removes on condition of the record, with another one and with the right one.
    fn delete_item_conditionally(&mut self, table: &DynamoDb<'_, P>) {
        let name = DECIDING[2];
        let (item, record, other) = (self.fresh_item(), self.fresh_body(), self.fresh_body());
        let stored =
            self.insist(|probe| probe.put_item(table, &item, &record, ItemCondition::Anything));
        if let Err(cause) = stored {
            let told = self.told(Operation::PutItem, &item, &cause);
            return self.leave_open(name, told);
        }
        let other = ItemCondition::Holds(Some(&other));
        let refused = table.delete(&item, Attribute::Info, other);
        let survives = match self.stored_item(table, &item) {
            Ok(stored) => stored.is_some(),
            Err(told) => return self.leave_open(name, told),
        };
        match refused {
            Err(failed) if survives && failed.failure.is(|error| error.is_failed_condition()) => {}
            Err(failed) if survives => {
                let told = self.words(&failed);
                return self.leave_open(name, told);
            }
            _ => {
                return self.report.failed(
                    name,
                    Verdict::Unsafe,
                    "The table silently ignores the condition of DeleteItem: whoever lost the \
                     lock releases its successor's.",
                );
            }
        }
        let deleted = table.delete(&item, Attribute::Info, ItemCondition::Holds(Some(&record)));
        match (deleted, self.stored_item(table, &item)) {
            (_, Ok(None)) => self
                .report
                .ok(name, "Only the item that is meant is deleted."),
            (Err(failed), _) => {
                let told = self.words(&failed);
                self.leave_open(name, told);
            }
            (Ok(_), Err(told)) => self.leave_open(name, told),
            (Ok(_), Ok(Some(_))) => self.report.failed(
                name,
                Verdict::Unsafe,
                "The table says that it deleted an item, and it is still there.",
            ),
        }
    }

    /// Stores an item, sent once.
    fn put_item(
        &mut self,
        table: &DynamoDb<'_, P>,
        item: &str,
        record: &str,
        condition: ItemCondition<'_>,
    ) -> Result<Answer, Cause> {
        let body = json::text(&table.put_body(item, Attribute::Info, record, condition));
        let (answer, _) = self.once(table.request(Operation::PutItem, &body));
        self.note(None, &answer);
        answer
    }

    /// The record of an item, asked for as often as any read; or why it cannot be had.
    fn stored_item(&self, table: &DynamoDb<'_, P>, item: &str) -> Result<Option<String>, String> {
        match table.get(item, Attribute::Info) {
            Ok(found) => Ok(found.and_then(|item| item.value)),
            Err(failed) => Err(self.words(&failed)),
        }
    }

    /// The key of an item that no other step uses.
    fn fresh_item(&mut self) -> String {
        let key = self.fresh_key();
        let item = format!("{}/{key}", self.settings.bucket);
        self.traces.items.push(item.clone());
        item
    }

    fn item_stem(&self) -> String {
        format!("{}/{}", self.settings.bucket, self.stem)
    }
}
