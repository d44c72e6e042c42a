//! Which table of DynamoDB's a request is about.
//!
//! DynamoDB has one path for everything, and the table stands in the body. Without a look into it a store that may use one
//! table could use every table that its credentials open.

use std::fmt;

use http::HeaderValue;
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};

/// The header that names the operation.
pub(super) const TARGET: &str = "x-amz-target";

/// What locks and digests need. Each names its table at the top of its body, and touches no other.
const OPERATIONS: [&str; 4] = [
    "DynamoDB_20120810.DeleteItem",
    "DynamoDB_20120810.DescribeTable",
    "DynamoDB_20120810.GetItem",
    "DynamoDB_20120810.PutItem",
];

/// An item has 400 KB at most, and escapes can double it; a request says of one item what is to be and what must be.
pub(super) const MAX_BODY: usize = 2 << 20;

/// Whether a request is about one of these tables and nothing else.
pub(super) fn is_about<'t>(
    tables: &[String],
    mut targets: impl Iterator<Item = &'t HeaderValue>,
    body: &[u8],
) -> bool {
    let (Some(target), None) = (targets.next(), targets.next()) else {
        return false;
    };
    let known = target.to_str().is_ok_and(|it| OPERATIONS.contains(&it));
    let mut json = serde_json::Deserializer::from_slice(body);
    let named = json.deserialize_map(TableNames);
    known
        && json.end().is_ok()
        // Of two names one reader takes the first and another the last.
        && named.is_ok_and(|names| matches!(&names[..], [name] if tables.contains(name)))
}

/// Every table that an object names at its top.
struct TableNames;

impl<'de> Visitor<'de> for TableNames {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request to DynamoDB")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Vec<String>, M::Error> {
        let mut names = Vec::new();
        while let Some(is_table) = map.next_key_seed(IsTableName)? {
            if is_table {
                names.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(names)
    }
}

/// Whether a key, its escapes undone, is the one that names a table; in any case, for readers that do not mind.
struct IsTableName;

impl<'de> DeserializeSeed<'de> for IsTableName {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_identifier(self)
    }
}

impl Visitor<'_> for IsTableName {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key.eq_ignore_ascii_case("TableName"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about_locks(target: &str, body: &str) -> bool {
        let target = HeaderValue::from_str(target).unwrap();
        let tables = ["locks".to_owned()];
        is_about(&tables, [&target].into_iter(), body.as_bytes())
    }

    #[test]
    fn a_request_for_the_stores_own_table_passes() {
        let body = r#"{"Key":{"LockID":{"S":"b/k"}},"TableName":"locks"}"#;
        for operation in ["GetItem", "PutItem", "DeleteItem", "DescribeTable"] {
            assert!(about_locks(&format!("DynamoDB_20120810.{operation}"), body));
        }
    }

    #[test]
    fn a_request_that_is_about_another_table_in_any_reading_does_not() {
        for body in [
            r#"{"TableName":"other"}"#,
            r#"{"TableName":"locks","TableName":"other"}"#,
            r#"{"TableName":"other","TableName":"locks"}"#,
            r#"{"TableName":"locks","tablename":"other"}"#,
            r#"{"TableName":"locks","\u0054ableName":"other"}"#,
            r#"{"TableName":["locks"]}"#,
            r#"{"RequestItems":{"other":{}}}"#,
            r#"{"Key":{"TableName":"locks"}}"#,
            r#"{"TableName":"locks"}{"TableName":"other"}"#,
            r#"[{"TableName":"locks"}]"#,
            "",
        ] {
            assert!(!about_locks("DynamoDB_20120810.GetItem", body), "{body}");
        }
    }

    #[test]
    fn operations_that_name_tables_elsewhere_do_not_pass() {
        let body = r#"{"TableName":"locks","Statement":"SELECT * FROM other"}"#;
        for operation in ["ExecuteStatement", "BatchGetItem", "TransactWriteItems"] {
            assert!(!about_locks(
                &format!("DynamoDB_20120810.{operation}"),
                body
            ));
        }
        let target = HeaderValue::from_static("DynamoDB_20120810.GetItem");
        let tables = ["locks".to_owned()];
        let body = br#"{"TableName":"locks"}"#;
        assert!(!is_about(&tables, [&target, &target].into_iter(), body));
        assert!(!is_about(&tables, [].into_iter(), body));
    }
}
