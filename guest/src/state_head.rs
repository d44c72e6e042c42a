//! What a state says of itself: serial and lineage, for messages.
//!
//! "Serial 8 is stored, serial 7 was to be written" tells a person who came first. A state can have a hundred megabytes,
//! so the rest of it is skipped, never kept. Terraform's states and OpenTofu's encrypted ones have both fields.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::aws::error::presentable;

/// Serial and lineage, where they can be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct StateHead {
    pub(crate) serial: Option<u64>,
    pub(crate) lineage: Option<String>,
}

impl StateHead {
    pub(crate) fn of(state: &[u8]) -> Self {
        let text = std::str::from_utf8(state).unwrap_or_default();
        serde_json::from_str(text).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for StateHead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeadVisitor)
    }
}

/// Takes whatever comes; what is no object has no head. (A visitor that expects something brings in the formatting of
/// all that it does not expect, floating-point numbers included: a twentieth of the component.)
struct HeadVisitor;

impl<'de> Visitor<'de> for HeadVisitor {
    type Value = StateHead;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a state")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StateHead, A::Error> {
        let mut head = StateHead::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "serial" => head.serial = map.next_value::<Value>()?.as_u64(),
                "lineage" => {
                    head.lineage = map.next_value::<Value>()?.as_str().and_then(presentable);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(head)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<StateHead, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(StateHead::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<StateHead, E> {
        Ok(StateHead::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<StateHead, E> {
        Ok(StateHead::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<StateHead, E> {
        Ok(StateHead::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<StateHead, E> {
        Ok(StateHead::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<StateHead, E> {
        Ok(StateHead::default())
    }

    fn visit_unit<E>(self) -> Result<StateHead, E> {
        Ok(StateHead::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_plain_and_encrypted_tell_serial_and_lineage() {
        let head = Some("l".to_owned());
        for state in [
            r#"{"version":4,"serial":7,"lineage":"l","outputs":{"a":[1.5,{}]}}"#,
            r#"{"serial":7,"lineage":"l","meta":{},"encrypted_data":"x","encryption_version":"v0"}"#,
        ] {
            let found = StateHead::of(state.as_bytes());
            assert_eq!((found.serial, found.lineage), (Some(7), head.clone()));
        }
    }

    #[test]
    fn what_is_no_state_tells_nothing_and_breaks_nothing() {
        let deep = "[".repeat(100_000);
        for garbage in [
            "",
            "{",
            "[1,{}]",
            "7",
            "-7",
            "1.5",
            "true",
            "null",
            "\"x\"",
            &deep,
            "{\"serial\":\"7\",\"lineage\":7}",
            "{\"serial\":-1}",
        ] {
            assert_eq!(StateHead::of(garbage.as_bytes()), StateHead::default());
        }
        assert_eq!(StateHead::of(b"\xff"), StateHead::default());
    }
}
