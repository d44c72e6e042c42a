//! The operations on tables and items, each one step in the order of effects.
//!
//! Without this module a lock's condition and the item that it guards would be looked at one after the other.

use std::collections::btree_map::Entry;
use std::io;

use serde_json::{Map, Value, json};

use super::super::contents::{Contents, Failure, State};
use super::super::log::{Caller, ItemGeneration};
use super::expression::{Condition, Placeholders, projection};
use super::table::{Definition, KeyAttribute, Kind, StoredItem, Table, check_item, check_value};
use super::{Error, Item};

/// Fields of requests from before there were expressions, and others whose meaning is not known here. Leaving one
/// out would make a conditional write an unconditional one.
const REFUSED: [&str; 9] = [
    "AttributesToGet",
    "ConditionalOperator",
    "Expected",
    "FilterExpression",
    "GlobalSecondaryIndexes",
    "IndexName",
    "LocalSecondaryIndexes",
    "ScanFilter",
    "StreamSpecification",
];

/// What happens to an item.
struct Change<'a> {
    key: Place<'a>,
    condition: Option<Condition>,
    /// Whether the item that was there is answered, and shown in a refusal.
    returns_old: bool,
    shows_present: bool,
}

/// An item, or the key of one.
enum Place<'a> {
    Item(&'a Item),
    Key(&'a Item),
}

impl Contents {
    pub(super) fn dynamo(
        &self,
        caller: &Caller,
        operation: &str,
        request: &Map<String, Value>,
        region: &str,
    ) -> Result<Value, Error> {
        if let Some(name) = REFUSED.iter().find(|name| request.contains_key(**name)) {
            return Err(Error::validation(format!(
                "The embedded store does not know {name}"
            )));
        }
        if operation == "ListTables" {
            return self.list_tables(caller, request);
        }
        let table = match request.get("TableName").and_then(Value::as_str) {
            Some(name) if is_table_name(name) => name,
            _ if operation == "Unknown" => {
                return Err(Error::service("UnknownOperationException", ""));
            }
            _ => {
                return Err(Error::validation(
                    "TableName must be 3 to 255 of a-z, A-Z, 0-9, _, - and .",
                ));
            }
        };
        match operation {
            "CreateTable" => {
                let definition = Definition::new(table, key_schema(request)?);
                self.create_table(caller, definition.clone())?;
                Ok(json!({ "TableDescription": description(&definition, 0, region) }))
            }
            "DeleteItem" | "PutItem" => self.change_item(caller, table, operation, request),
            "DeleteTable" => {
                let definition = self.delete_table(caller, table)?;
                Ok(json!({ "TableDescription": description(&definition, 0, region) }))
            }
            "DescribeTable" => self.enter(caller, |state, _| {
                let table = state.table(table)?;
                let description = description(&table.definition, table.items.len(), region);
                Ok(json!({ "Table": description }))
            }),
            "GetItem" => self.get_item(caller, table, request),
            "Scan" => self.scan(caller, table, request),
            _ => Err(Error::service("UnknownOperationException", "")),
        }
    }

    pub(in super::super) fn create_table(
        &self,
        caller: &Caller,
        definition: Definition,
    ) -> Result<(), Error> {
        self.enter(caller, |state, _| {
            match state.tables.entry(definition.name.clone()) {
                Entry::Occupied(_) => Err(Error::dynamo(
                    "ResourceInUseException",
                    format!("Table already exists: {}", definition.name),
                )),
                Entry::Vacant(vacant) => {
                    if let Some(disk) = &self.disk {
                        disk.create_table(&definition).map_err(Failure::Disk)?;
                    }
                    vacant.insert(Table::new(definition, Vec::new()).map_err(Failure::Disk)?);
                    Ok(())
                }
            }
        })
    }

    pub(in super::super) fn definition(&self, table: &str) -> Option<Definition> {
        let state = self.state();
        state
            .tables
            .get(table)
            .map(|table| table.definition.clone())
    }

    /// The item of this text as partition key; `None` also when there is no such table.
    pub(in super::super) fn item(&self, table: &str, key: &str) -> Option<Item> {
        let state = self.state();
        let table = state.tables.get(table)?;
        let place = table.definition.place_of_key(&lock_id(key)).ok()?;
        table.items.get(&place).cloned()
    }

    /// Every generation of an item since the start, the first one first.
    pub(in super::super) fn item_history(&self, table: &str, key: &str) -> Vec<ItemGeneration> {
        let state = self.state();
        let Some(table) = state.tables.get(table) else {
            return Vec::new();
        };
        let Ok(place) = table.definition.place_of_key(&lock_id(key)) else {
            return Vec::new();
        };
        let of_item = table.history.iter().filter(|(of, _)| *of == place);
        of_item.map(|(_, generation)| generation.clone()).collect()
    }

    /// Stores an item, or with `None` deletes it, whatever is there.
    pub(in super::super) fn set_item(
        &self,
        table: &str,
        key: &str,
        item: Option<Value>,
    ) -> io::Result<()> {
        let item = match item {
            None => None,
            Some(Value::Object(item)) => Some(item),
            Some(_) => {
                let what = "an item is a JSON object of attributes";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        };
        let key = lock_id(key);
        let caller = Caller::default();
        let set = self.enter(&caller, |state, sequence| {
            let definition = &state.table(table)?.definition;
            let place = definition.place_of_key(&key)?;
            let item = match item {
                Some(mut item) => {
                    item.extend(key);
                    check_item(&item)?;
                    Some(item)
                }
                None => None,
            };
            self.set(state, sequence, &caller, table, place, item)
        });
        set.map(|_| ()).map_err(Error::into_io)
    }

    fn delete_table(&self, caller: &Caller, name: &str) -> Result<Definition, Error> {
        self.enter(caller, |state, _| {
            state.table(name)?;
            if let Some(disk) = &self.disk {
                state.must(disk.remove_table(name))?;
            }
            match state.tables.remove(name) {
                Some(table) => Ok(table.definition),
                None => Err(Error::no_such_table(name)),
            }
        })
    }

    fn list_tables(&self, caller: &Caller, request: &Map<String, Value>) -> Result<Value, Error> {
        let after = request.get("ExclusiveStartTableName");
        let after = after.and_then(Value::as_str).unwrap_or_default();
        let limit = limit(request, 100)?;
        self.enter(caller, |state, _| {
            let mut names = state.tables.keys().filter(|name| name.as_str() > after);
            let page: Vec<&String> = names.by_ref().take(limit).collect();
            let mut answer = json!({ "TableNames": page });
            if names.next().is_some() {
                answer["LastEvaluatedTableName"] = json!(page.last());
            }
            Ok(answer)
        })
    }

    fn get_item(
        &self,
        caller: &Caller,
        table: &str,
        request: &Map<String, Value>,
    ) -> Result<Value, Error> {
        let key = object(request, "Key")?;
        let names = projected(request)?;
        self.enter(caller, |state, _| {
            let table = state.table(table)?;
            let place = table.definition.place_of_key(key)?;
            Ok(match table.items.get(&place) {
                Some(item) => json!({ "Item": pick(item, names.as_deref()) }),
                None => json!({}),
            })
        })
    }

    fn scan(
        &self,
        caller: &Caller,
        table: &str,
        request: &Map<String, Value>,
    ) -> Result<Value, Error> {
        let names = projected(request)?;
        let limit = limit(request, 1000)?;
        let start = match request.get("ExclusiveStartKey") {
            Some(_) => Some(object(request, "ExclusiveStartKey")?),
            None => None,
        };
        self.enter(caller, |state, _| {
            let table = state.table(table)?;
            let after = start
                .map(|key| table.definition.place_of_key(key))
                .transpose()?;
            let mut items = table
                .items
                .iter()
                .filter(|(place, _)| Some(*place) > after.as_ref());
            let page: Vec<&Item> = items.by_ref().take(limit).map(|(_, item)| item).collect();
            let picked: Vec<Item> = page
                .iter()
                .map(|item| pick(item, names.as_deref()))
                .collect();
            let mut answer =
                json!({ "Count": page.len(), "ScannedCount": page.len(), "Items": picked });
            if let (Some(last), true) = (page.last(), items.next().is_some()) {
                answer["LastEvaluatedKey"] = Value::Object(table.definition.key_of(last));
            }
            Ok(answer)
        })
    }

    fn change_item(
        &self,
        caller: &Caller,
        table: &str,
        operation: &str,
        request: &Map<String, Value>,
    ) -> Result<Value, Error> {
        let (key, item) = if operation == "PutItem" {
            let item = object(request, "Item")?;
            check_item(item)?;
            (Place::Item(item), Some(item.clone()))
        } else {
            (Place::Key(object(request, "Key")?), None)
        };
        let change = Change {
            key,
            condition: condition(request)?,
            returns_old: choice(request, "ReturnValues")?,
            shows_present: choice(request, "ReturnValuesOnConditionCheckFailure")?,
        };
        let checked = caller.flaws.ignore_items_conditions
            || self.race(caller, |state| change.check(state, table).map(|_| ()))?;
        let old = self.enter(caller, |state, sequence| {
            let place = if checked {
                change.place(state, table)?
            } else {
                change.check(state, table)?
            };
            self.set(state, sequence, caller, table, place, item)
        })?;
        Ok(match old {
            Some(old) if change.returns_old => json!({ "Attributes": old }),
            _ => json!({}),
        })
    }

    /// Puts an item in its place, or nothing, and answers what was there.
    fn set(
        &self,
        state: &mut State,
        sequence: u64,
        caller: &Caller,
        table: &str,
        place: String,
        item: Option<Item>,
    ) -> Result<Option<Item>, Error> {
        let present = state.table(table)?.items.contains_key(&place);
        if item.is_none() && !present {
            return Ok(None);
        }
        if let Some(disk) = &self.disk {
            let done = match &item {
                Some(item) => disk.put_item(
                    table,
                    &StoredItem {
                        place: place.clone(),
                        item: item.clone(),
                    },
                ),
                None => disk.remove_item(table, &place),
            };
            state.must(done)?;
        }
        let table = state.table(table)?;
        if self.is_recording() {
            let generation = ItemGeneration {
                sequence,
                item: item.clone().map(Value::Object),
                user_agent: caller.user_agent.clone(),
            };
            table.history.push((place.clone(), generation));
        }
        Ok(match item {
            Some(item) => table.items.insert(place, item),
            None => table.items.remove(&place),
        })
    }
}

impl State {
    fn table(&mut self, name: &str) -> Result<&mut Table, Error> {
        self.tables
            .get_mut(name)
            .ok_or_else(|| Error::no_such_table(name))
    }
}

impl Change<'_> {
    fn place(&self, state: &mut State, table: &str) -> Result<String, Error> {
        let definition = &state.table(table)?.definition;
        match self.key {
            Place::Item(item) => definition.place_of_item(item),
            Place::Key(key) => definition.place_of_key(key),
        }
    }

    /// The place, if the condition holds for what is there.
    fn check(&self, state: &mut State, table: &str) -> Result<String, Error> {
        let place = self.place(state, table)?;
        let present = state.table(table)?.items.get(&place);
        match &self.condition {
            Some(condition) if !condition.holds(present) => Err(Error::condition_failed(
                present.filter(|_| self.shows_present).cloned(),
            )),
            _ => Ok(place),
        }
    }
}

fn lock_id(key: &str) -> Item {
    Item::from_iter([("LockID".to_owned(), json!({ "S": key }))])
}

pub(in super::super) fn is_table_name(name: &str) -> bool {
    (3..=255).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

fn object<'a>(request: &'a Map<String, Value>, name: &str) -> Result<&'a Item, Error> {
    let object = request.get(name).and_then(Value::as_object);
    object.ok_or_else(|| Error::validation(format!("{name} must be an object of attributes")))
}

fn text<'a>(request: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Error> {
    match request.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::validation(format!("{name} must be a string"))),
    }
}

fn map<'a>(
    request: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, Error> {
    match request.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(Error::validation(format!("{name} must be an object"))),
    }
}

/// Whether `ALL_OLD` was chosen and not `NONE`.
fn choice(request: &Map<String, Value>, name: &str) -> Result<bool, Error> {
    match text(request, name)? {
        None | Some("NONE") => Ok(false),
        Some("ALL_OLD") => Ok(true),
        Some(other) => Err(Error::validation(format!(
            "{name} can only be ALL_OLD or NONE, not {other}"
        ))),
    }
}

fn limit(request: &Map<String, Value>, most: usize) -> Result<usize, Error> {
    match request.get("Limit") {
        None | Some(Value::Null) => Ok(most),
        Some(limit) => match limit.as_u64().map(usize::try_from) {
            Some(Ok(limit)) if limit > 0 => Ok(limit.min(most)),
            _ => Err(Error::validation("Limit must be a number above 0")),
        },
    }
}

fn condition(request: &Map<String, Value>) -> Result<Option<Condition>, Error> {
    let names = map(request, "ExpressionAttributeNames")?;
    let values = map(request, "ExpressionAttributeValues")?;
    for value in values.into_iter().flat_map(Map::values) {
        check_value(value)?;
    }
    let placeholders = Placeholders::new(names, values);
    let condition = text(request, "ConditionExpression")?
        .map(|text| Condition::parse("ConditionExpression", text, &placeholders))
        .transpose()?;
    placeholders.all_used()?;
    Ok(condition)
}

fn projected(request: &Map<String, Value>) -> Result<Option<Vec<String>>, Error> {
    let names = map(request, "ExpressionAttributeNames")?;
    let placeholders = Placeholders::new(names, None);
    let names = text(request, "ProjectionExpression")?
        .map(|text| projection(text, &placeholders))
        .transpose()?;
    placeholders.all_used()?;
    Ok(names)
}

fn pick(item: &Item, names: Option<&[String]>) -> Item {
    match names {
        None => item.clone(),
        Some(names) => names
            .iter()
            .filter_map(|name| item.get_key_value(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    }
}

fn key_schema(request: &Map<String, Value>) -> Result<Vec<KeyAttribute>, Error> {
    let invalid = || {
        Error::validation(
            "KeySchema must name a HASH key and may name a RANGE key, and AttributeDefinitions must give exactly \
             these a type: S, N or B",
        )
    };
    let list = |name: &str| {
        request
            .get(name)
            .and_then(Value::as_array)
            .ok_or_else(invalid)
    };
    let field = |value: &Value, name: &str| {
        let text = value.get(name).and_then(Value::as_str);
        text.map(str::to_owned).ok_or_else(invalid)
    };
    let definitions = list("AttributeDefinitions")?;
    let mut key = Vec::new();
    for (element, role) in list("KeySchema")?.iter().zip(["HASH", "RANGE"]) {
        if field(element, "KeyType")? != role {
            return Err(invalid());
        }
        let name = field(element, "AttributeName")?;
        let mut kinds = Vec::new();
        for definition in definitions {
            if field(definition, "AttributeName")? == name {
                kinds.push(field(definition, "AttributeType")?);
            }
        }
        let [kind] = kinds.as_slice() else {
            return Err(invalid());
        };
        let kind = Kind::of(kind).ok_or_else(invalid)?;
        key.push(KeyAttribute { name, kind });
    }
    if key.is_empty() || key.len() != list("KeySchema")?.len() || key.len() != definitions.len() {
        return Err(invalid());
    }
    Ok(key)
}

fn description(definition: &Definition, items: usize, region: &str) -> Value {
    let Definition {
        name,
        key,
        created,
        id,
    } = definition;
    let schema = key
        .iter()
        .zip(["HASH", "RANGE"])
        .map(|(attribute, role)| json!({ "AttributeName": attribute.name, "KeyType": role }));
    let definitions = key.iter().map(|attribute| {
        json!({ "AttributeName": attribute.name, "AttributeType": attribute.kind.name() })
    });
    json!({
        "AttributeDefinitions": definitions.collect::<Vec<_>>(),
        "BillingModeSummary": { "BillingMode": "PAY_PER_REQUEST" },
        "CreationDateTime": created,
        "ItemCount": items,
        "KeySchema": schema.collect::<Vec<_>>(),
        "ProvisionedThroughput": {
            "NumberOfDecreasesToday": 0,
            "ReadCapacityUnits": 0,
            "WriteCapacityUnits": 0,
        },
        "TableArn": format!("arn:aws:dynamodb:{region}:000000000000:table/{name}"),
        "TableId": id,
        "TableName": name,
        "TableSizeBytes": 0,
        "TableStatus": "ACTIVE",
    })
}
