//! A backend block as it was given: names checked, values of the right type, nothing judged yet.
//!
//! Without this step every rule would meet raw JSON, in which the same number may be `5` or `"5"`
//! and the same endpoint may stand in an object or under a name with a dot.

use serde_json::Value as Json;
use zeroize::Zeroizing;

use super::Diagnostic;
use super::schema::{self, Argument, Kind, SCHEMA, Value};
use super::suggest;

/// The arguments that are set, by their names in the table.
pub(super) struct Block {
    values: Vec<(&'static str, Given)>,
}

/// A value of the type that the table asks for.
enum Given {
    Bool(bool),
    /// In the order of the names.
    Map(Vec<(String, String)>),
    Number(f64),
    /// Present, but there is nothing to read: of a wrong type, or an object, whose fields stand
    /// apart.
    Opaque,
    /// Sorted, each once.
    Set(Vec<String>),
    Text(Zeroizing<String>),
}

impl Block {
    /// Reads a block. What can't be read is told and left out; None: none of it can be read.
    pub(super) fn parse(config: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let problem = match serde_json::from_str(config) {
            Ok(Json::Object(arguments)) => {
                let mut block = Self { values: Vec::new() };
                block.take_all(arguments, diagnostics);
                return Some(block);
            }
            Ok(_) => "The backend block must be a JSON object.".to_owned(),
            // The parser's messages name what it expected and the place, never the text.
            Err(error) => format!("The backend block must be a JSON object: {error}."),
        };
        diagnostics.push(Diagnostic::error("Invalid backend configuration", problem));
        None
    }

    /// Whether the block has this argument, whatever its value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The text of an argument, or its default. None also for one of a wrong type.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Given::Text(text)) => Some(text),
            Some(_) => None,
            None => match schema::argument(name)?.default {
                Some(Value::Text(text)) => Some(text),
                _ => None,
            },
        }
    }

    /// A bool argument, or its default.
    pub(super) fn flag(&self, name: &str) -> bool {
        match self.get(name) {
            Some(Given::Bool(flag)) => *flag,
            Some(_) => false,
            None => schema::argument(name).and_then(|it| it.default) == Some(Value::Bool(true)),
        }
    }

    /// A number argument, or its default. None also for one of a wrong type.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            Some(Given::Number(number)) => Some(*number),
            Some(_) => None,
            None => match schema::argument(name)?.default {
                Some(Value::Number(number)) => Some(number.into()),
                _ => None,
            },
        }
    }

    /// The texts of a map argument, in the order of their names. None also for one of a wrong type.
    pub(super) fn map(&self, name: &str) -> Option<&[(String, String)]> {
        match self.get(name)? {
            Given::Map(texts) => Some(texts),
            _ => None,
        }
    }

    /// The texts of a set argument, sorted. Empty also for one of a wrong type.
    pub(super) fn texts(&self, name: &str) -> &[String] {
        match self.get(name) {
            Some(Given::Set(texts)) => texts,
            _ => &[],
        }
    }

    /// A bool argument that has three values: it may also be left out.
    pub(super) fn choice(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Given::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    fn get(&self, name: &str) -> Option<&Given> {
        let mut values = self.values.iter();
        values.find(|(known, _)| *known == name).map(|(_, it)| it)
    }

    fn set(&mut self, name: &'static str, given: Given) {
        self.values.retain(|(known, _)| *known != name);
        self.values.push((name, given));
    }

    fn take_all(
        &mut self,
        arguments: serde_json::Map<String, Json>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        for (name, value) in arguments {
            if value.is_null() {
                continue;
            }
            let Some(argument) = schema::argument(&name) else {
                diagnostics.push(unknown(&name));
                continue;
            };
            match value {
                Json::Object(fields) if argument.kind == Kind::Object => {
                    self.take_object(argument, fields, diagnostics);
                }
                value => {
                    // A name with a dot comes from `-backend-config`, which beats the block's
                    // object.
                    let given = judge(argument, value, diagnostics);
                    self.set(argument.name, given);
                }
            }
        }
    }

    fn take_object(
        &mut self,
        object: &'static Argument,
        fields: serde_json::Map<String, Json>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        self.set(object.name, Given::Opaque);
        for (field, value) in fields {
            let name = format!("{}.{field}", object.name);
            match schema::argument(&name) {
                None => diagnostics.push(unknown(&name)),
                Some(_) if value.is_null() => {}
                Some(argument) => {
                    let given = judge(argument, value, diagnostics);
                    if !self.has(argument.name) {
                        self.set(argument.name, given);
                    }
                }
            }
        }
    }
}

/// The value of an argument as the type that it must have.
fn judge(argument: &'static Argument, value: Json, diagnostics: &mut Vec<Diagnostic>) -> Given {
    convert(argument.kind, value).unwrap_or_else(|requirement| {
        let detail = format!(
            "Inappropriate value for attribute \"{}\": {requirement}.",
            argument.name
        );
        let summary = "Incorrect attribute value type";
        diagnostics.push(Diagnostic::error(summary, detail).at(argument.name));
        Given::Opaque
    })
}

/// Terraform's conversions: scalars to text, and text that spells a scalar to that scalar.
fn convert(kind: Kind, value: Json) -> Result<Given, &'static str> {
    match (kind, value) {
        (Kind::Bool, Json::Bool(flag)) => Ok(Given::Bool(flag)),
        (Kind::Bool, Json::String(text)) => match text.as_str() {
            "true" | "1" => Ok(Given::Bool(true)),
            "false" | "0" => Ok(Given::Bool(false)),
            _ => Err("a bool is required"),
        },
        (Kind::Bool, _) => Err("bool required"),
        (Kind::Number, Json::Number(number)) => {
            number.as_f64().map(Given::Number).ok_or("number required")
        }
        (Kind::Number, Json::String(text)) => {
            // By way of JSON's own number: reading an f64 directly brings its formatting along.
            let number = match serde_json::from_str(&text) {
                Ok(Json::Number(number)) => number.as_f64(),
                _ => None,
            };
            number.map(Given::Number).ok_or("a number is required")
        }
        (Kind::Number, _) => Err("number required"),
        (Kind::String, Json::String(text)) => Ok(Given::Text(text.into())),
        (Kind::String, Json::Bool(flag)) => Ok(Given::Text(flag.to_string().into())),
        (Kind::String, Json::Number(number)) => Ok(Given::Text(number.to_string().into())),
        (Kind::String, _) => Err("string required"),
        (Kind::Map, Json::Object(fields)) => {
            let texts = fields
                .into_iter()
                .map(|(name, value)| Ok((name, element(value)?)));
            texts.collect::<Result<_, _>>().map(Given::Map)
        }
        (Kind::Map, _) => Err("map of string required"),
        (Kind::Object, _) => Err("object required"),
        (Kind::Set, Json::Array(elements)) => {
            let mut texts: Vec<String> = Vec::new();
            for text in elements {
                let text = element(text)?;
                if let Err(place) = texts.binary_search(&text) {
                    texts.insert(place, text);
                }
            }
            Ok(Given::Set(texts))
        }
        (Kind::Set, _) => Err("set of string required"),
    }
}

/// An element of a map or set.
fn element(value: Json) -> Result<String, &'static str> {
    match value {
        Json::String(text) => Ok(text),
        Json::Bool(flag) => Ok(flag.to_string()),
        Json::Number(number) => Ok(number.to_string()),
        _ => Err("every element must be a string"),
    }
}

fn unknown(name: &str) -> Diagnostic {
    let mut detail = format!("An argument named {name:?} is not expected here.");
    let names = SCHEMA.iter().map(|argument| argument.name);
    if let Some(near) = suggest::nearest(name, names) {
        detail.push_str(&format!(" Did you mean \"{near}\"?"));
    }
    Diagnostic::error("Unsupported argument", detail).at(name)
}
