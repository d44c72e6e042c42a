//! A table: its keys and its items.
//!
//! Without this module an item could be stored under a key that its table does not have, and never be found again.

use std::collections::BTreeMap;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::log::ItemGeneration;
use super::{Error, Item};

/// The most bytes of an item; DynamoDB's number.
const LARGEST_ITEM: usize = 400 * 1024;

/// The most bytes of a partition key, and of a sort key; DynamoDB's numbers.
const LONGEST_KEYS: [usize; 2] = [2048, 1024];

/// What a table is, also on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Definition {
    pub(in super::super) name: String,
    /// The partition key, and perhaps a sort key.
    pub(in super::super) key: Vec<KeyAttribute>,
    /// Seconds since 1970.
    pub(in super::super) created: u64,
    pub(in super::super) id: String,
}

/// An attribute that items are found by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct KeyAttribute {
    pub(in super::super) name: String,
    pub(in super::super) kind: Kind,
}

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum Kind {
    B,
    N,
    S,
}

impl Kind {
    pub(in super::super) fn of(name: &str) -> Option<Self> {
        match name {
            "B" => Some(Self::B),
            "N" => Some(Self::N),
            "S" => Some(Self::S),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::B => "B",
            Self::N => "N",
            Self::S => "S",
        }
    }
}

impl Definition {
    pub(in super::super) fn new(name: &str, key: Vec<KeyAttribute>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            name: name.to_owned(),
            key,
            created: now.map_or(0, |since| since.as_secs()),
            id: uuid::Uuid::new_v4().to_string(),
        }
    }

    /// For locks: one partition key, `LockID`, which is a text.
    pub(in super::super) fn for_locks(name: &str) -> Self {
        let key = KeyAttribute {
            name: "LockID".to_owned(),
            kind: Kind::S,
        };
        Self::new(name, vec![key])
    }

    /// The place of an item among the table's, from an item that has been checked or from its key alone.
    fn place(&self, item: &Item) -> String {
        let values = self.key.iter().map(|attribute| {
            let value = item.get(&attribute.name);
            value.and_then(|value| value.get(attribute.kind.name()))
        });
        json!(values.collect::<Vec<_>>()).to_string()
    }

    /// The place of an item that shall be stored.
    pub(super) fn place_of_item(&self, item: &Item) -> Result<String, Error> {
        for attribute in &self.key {
            let name = &attribute.name;
            let expected = attribute.kind.name();
            let invalid = |what: String| {
                Error::validation(format!("One or more parameter values were invalid: {what}"))
            };
            let value = item
                .get(name)
                .ok_or_else(|| invalid(format!("Missing the key {name} in the item")))?;
            let actual = kind(value).unwrap_or("none");
            if actual != expected {
                return Err(invalid(format!(
                    "Type mismatch for key {name} expected: {expected} actual: {actual}"
                )));
            }
        }
        self.check_lengths(item)?;
        Ok(self.place(item))
    }

    /// The place of the item with this key.
    pub(super) fn place_of_key(&self, key: &Item) -> Result<String, Error> {
        let fits = key.len() == self.key.len()
            && self.key.iter().all(|attribute| {
                let value = key.get(&attribute.name);
                value.and_then(kind) == Some(attribute.kind.name())
            });
        if !fits {
            return Err(Error::validation(
                "The provided key element does not match the schema",
            ));
        }
        self.check_lengths(key)?;
        Ok(self.place(key))
    }

    /// Only the attributes of the key.
    pub(super) fn key_of(&self, item: &Item) -> Item {
        let names = self.key.iter().map(|attribute| &attribute.name);
        names
            .filter_map(|name| item.get_key_value(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    fn check_lengths(&self, item: &Item) -> Result<(), Error> {
        for (attribute, longest) in self.key.iter().zip(LONGEST_KEYS) {
            let value = item.get(&attribute.name).map_or(0, size);
            if value == 0 {
                return Err(Error::validation(format!(
                    "One or more parameter values are not valid. The AttributeValue for a key attribute cannot \
                     contain an empty string value. Key: {}",
                    attribute.name
                )));
            }
            if value > longest {
                return Err(Error::validation(format!(
                    "One or more parameter values were invalid: Size of the key {} has exceeded the maximum size \
                     limit of {longest} bytes",
                    attribute.name
                )));
            }
        }
        Ok(())
    }
}

/// An item as it stands on disk.
#[derive(Clone, Serialize, Deserialize)]
pub(in super::super) struct StoredItem {
    pub(in super::super) place: String,
    pub(in super::super) item: Item,
}

pub(in super::super) struct Table {
    pub(super) definition: Definition,
    /// By their places.
    pub(super) items: BTreeMap<String, Item>,
    pub(super) history: Vec<(String, ItemGeneration)>,
}

impl Table {
    /// # Errors
    /// When an item is not at its place.
    pub(in super::super) fn new(
        definition: Definition,
        stored: Vec<StoredItem>,
    ) -> io::Result<Self> {
        let mut items = BTreeMap::new();
        for StoredItem { place, item } in stored {
            if definition.place(&item) != place {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the table {:?} holds an item of another", definition.name),
                ));
            }
            items.insert(place, item);
        }
        Ok(Self {
            definition,
            items,
            history: Vec::new(),
        })
    }

    pub(in super::super) fn name(&self) -> &str {
        &self.definition.name
    }
}

/// Refuses what is no set of attributes, or too large.
pub(super) fn check_item(item: &Item) -> Result<(), Error> {
    let mut bytes = 0;
    for (name, value) in item {
        check_value(value)?;
        bytes += name.len() + size(value);
    }
    if bytes > LARGEST_ITEM {
        return Err(Error::validation(
            "Item size has exceeded the maximum allowed size",
        ));
    }
    Ok(())
}

/// Refuses what is no attribute's value, such as `{"S": "text"}`.
pub(super) fn check_value(value: &Value) -> Result<(), Error> {
    let invalid = || {
        Error::validation(
            "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes",
        )
    };
    let mut fields = value.as_object().into_iter().flatten();
    let (Some((kind, inner)), None) = (fields.next(), fields.next()) else {
        return Err(invalid());
    };
    match (kind.as_str(), inner) {
        ("BOOL", Value::Bool(_)) | ("NULL", Value::Bool(true)) | ("S", Value::String(_)) => Ok(()),
        ("B", Value::String(text)) if STANDARD.decode(text).is_ok() => Ok(()),
        ("N", Value::String(text)) => {
            if is_number(text) {
                return Ok(());
            }
            Err(Error::validation(format!(
                "The parameter cannot be converted to a numeric value: {text}"
            )))
        }
        ("L", Value::Array(values)) => values.iter().try_for_each(check_value),
        ("M", Value::Object(values)) => values.values().try_for_each(check_value),
        ("B" | "BOOL" | "L" | "M" | "NULL" | "S", _) => Err(invalid()),
        _ => Err(Error::validation(format!(
            "The embedded store has attributes of the types S, N, B, BOOL, NULL, L and M, not {kind}"
        ))),
    }
}

/// An optional sign, digits with at most one point among them, and an optional exponent.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(&mantissa.replacen('.', "", 1))
        && exponent.is_none_or(|it| digits(it.strip_prefix(['-', '+']).unwrap_or(it)))
}

/// The one name in an attribute's value.
fn kind(value: &Value) -> Option<&str> {
    let fields = value.as_object()?;
    fields.keys().next().map(String::as_str)
}

/// Bytes, about as DynamoDB counts them.
fn size(value: &Value) -> usize {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(kind, inner)| match (kind.as_str(), inner) {
                ("M", Value::Object(map)) => map
                    .iter()
                    .map(|(name, value)| name.len() + size(value))
                    .sum(),
                ("B", Value::String(text)) => text.len() / 4 * 3,
                (_, Value::String(text)) => text.len(),
                (_, Value::Array(values)) => values.iter().map(size).sum(),
                _ => 1,
            })
            .sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(value: Value) -> Item {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_key_must_be_the_tables_own() {
        let locks = Definition::for_locks("locks");
        let place = locks.place_of_key(&item(json!({ "LockID": { "S": "b/k" } })));
        let stored = locks.place_of_item(&item(
            json!({ "LockID": { "S": "b/k" }, "Info": { "S": "" } }),
        ));
        assert_eq!(place.ok().unwrap(), stored.ok().unwrap());
        for wrong in [
            json!({}),
            json!({ "LockId": { "S": "b/k" } }),
            json!({ "LockID": { "N": "1" } }),
            json!({ "LockID": { "S": "" } }),
            json!({ "LockID": { "S": "k".repeat(2049) } }),
        ] {
            assert!(locks.place_of_key(&item(wrong.clone())).is_err(), "{wrong}");
            assert!(
                locks.place_of_item(&item(wrong.clone())).is_err(),
                "{wrong}"
            );
        }
        let more = item(json!({ "LockID": { "S": "b/k" }, "Info": { "S": "" } }));
        let message = locks.place_of_key(&more).err().unwrap().message;
        assert_eq!(
            message,
            "The provided key element does not match the schema"
        );
    }

    #[test]
    fn values_are_one_of_the_types_and_not_larger_than_an_item() {
        for right in [
            json!({ "S": "" }),
            json!({ "N": "-1.5e+3" }),
            json!({ "B": "AAAA" }),
            json!({ "BOOL": false }),
            json!({ "NULL": true }),
            json!({ "L": [{ "S": "x" }, { "M": { "a": { "N": "0" } } }] }),
        ] {
            assert!(check_value(&right).is_ok(), "{right}");
        }
        for wrong in [
            json!("x"),
            json!({}),
            json!({ "S": "x", "N": "1" }),
            json!({ "S": 1 }),
            json!({ "N": 1 }),
            json!({ "N": "" }),
            json!({ "N": "1.2.3" }),
            json!({ "N": "one" }),
            json!({ "B": "!" }),
            json!({ "L": ["x"] }),
            json!({ "SS": ["x"] }),
            json!({ "X": "x" }),
        ] {
            assert!(check_value(&wrong).is_err(), "{wrong}");
        }
        let fits = item(json!({ "k": { "S": "x".repeat(LARGEST_ITEM - 1) } }));
        assert!(check_item(&fits).is_ok());
        let too_large = item(json!({ "k": { "S": "x".repeat(LARGEST_ITEM) } }));
        assert!(check_item(&too_large).is_err());
    }
}
