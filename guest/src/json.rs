//! JSON, written in one way.
//!
//! Each way of reading or writing it that differs in a type (`Display` and its pretty form, bytes beside text, `json!` for
//! every field) brings a copy of the library into the component.

use serde_json::{Map, Value};

/// An object of these fields.
pub(crate) fn object<const N: usize>(mut fields: [(&str, Value); N]) -> Value {
    taken(&mut fields)
}

/// A value as text, without blanks.
pub(crate) fn text(value: &Value) -> String {
    // Only keys that are no text could fail.
    serde_json::to_string(value).unwrap_or_default()
}

fn taken(fields: &mut [(&str, Value)]) -> Value {
    // To collect them would bring a sort along.
    let mut object = Map::new();
    for (name, value) in fields {
        object.insert((*name).to_owned(), value.take());
    }
    Value::Object(object)
}
