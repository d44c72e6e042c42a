//! Lock records as Go writes them, from what a Go program reads in them.
//!
//! OpenTofu releases a lock in DynamoDB only if the record that is stored is, byte for byte, the one that it writes
//! again from what it has read. This is that round trip, written for the tests alone: the backend's own writer
//! cannot vouch for itself.

use serde_json::Value;

/// The keys of a record, in the order of Go's structure.
const KEYS: [&str; 7] = [
    "ID",
    "Operation",
    "Info",
    "Who",
    "Version",
    "Created",
    "Path",
];

/// What a Go program writes after it has read this record.
///
/// # Panics
/// If Go could not read it: it is no JSON object, or its time is none.
pub fn rewritten(record: &str) -> String {
    let read: Value = serde_json::from_str(record).expect("a record is JSON");
    let read = read.as_object().expect("a record is an object");
    let fields = KEYS.map(|key| {
        // Go takes keys in any case, and ignores those that it does not know.
        let value = read
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map_or("", |(_, value)| value.as_str().expect("a field is a text"));
        let value = match key {
            "Created" => time(value),
            _ => value.to_owned(),
        };
        format!("\"{key}\":{}", quoted(&value))
    });
    format!("{{{}}}", fields.join(","))
}

/// A time in UTC as Go's `RFC3339Nano` has it: without zeros at the end of the fraction.
fn time(text: &str) -> String {
    let time = text.strip_suffix('Z').expect("a time in UTC");
    match time.split_once('.') {
        None => text.to_owned(),
        Some((seconds, fraction)) => match fraction.trim_end_matches('0') {
            "" => format!("{seconds}Z"),
            fraction => format!("{seconds}.{fraction}Z"),
        },
    }
}

/// A text as Go's `json.Marshal` has it, which escapes what would matter in HTML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::rewritten;

    #[test]
    fn a_record_of_terraform_is_rewritten_as_it_is() {
        let record = r#"{"ID":"6ac9afb1-bea5-6ba0-333e-114b1e2fb569","Operation":"OperationTypeApply","Info":"","Who":"root@vm","Version":"1.11.4","Created":"2026-11-23T01:25:24.164382378Z","Path":"tfstate/lockfile/terraform.tfstate"}"#;
        assert_eq!(rewritten(record), record);
    }

    #[test]
    fn a_record_that_go_would_write_differently_does_not_pass() {
        for (record, expected) in [
            (
                r#"{"ID":"<&>","Created":"2026-01-02T03:04:05.120Z"}"#,
                r#"{"ID":"\u003c\u0026\u003e","Operation":"","Info":"","Who":"","Version":"","Created":"2026-01-02T03:04:05.12Z","Path":""}"#,
            ),
            (
                r#"{"Created":"2026-01-02T03:04:05.000Z","ID":"\u0001\u000a","More":"x"}"#,
                r#"{"ID":"\u0001\n","Operation":"","Info":"","Who":"","Version":"","Created":"2026-01-02T03:04:05Z","Path":""}"#,
            ),
        ] {
            assert_eq!(rewritten(record), expected);
        }
    }
}
