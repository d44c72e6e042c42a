//! Terraform's lock record: its JSON, byte for byte, and its text.
//!
//! OpenTofu releases a DynamoDB lock only when the stored record equals what Go writes, and no Go client can read a
//! record whose date is in another form: a record that is merely valid JSON leaves a lock that nobody can release.

use serde_json::Value;

use crate::calendar::{civil, parse_rfc3339};
use crate::contract::LockInfo;

/// The record as Go's `encoding/json` writes it.
pub(crate) fn to_json(info: &LockInfo) -> String {
    let fields = [
        ("ID", &info.id),
        ("Operation", &info.operation),
        ("Info", &info.info),
        ("Who", &info.who),
        ("Version", &info.version),
        ("Created", &info.created),
        ("Path", &info.path),
    ];
    let mut json = String::from("{");
    for (index, (name, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push('"');
        json.push_str(name);
        json.push_str("\":\"");
        escape(&mut json, value);
        json.push('"');
    }
    json.push('}');
    json
}

/// Reads a record as leniently as Go does: keys in any case, unknown ones ignored, absent ones empty. None: it is no
/// record.
pub(crate) fn from_json(json: &[u8]) -> Option<LockInfo> {
    let Value::Object(fields) = serde_json::from_str(&String::from_utf8_lossy(json)).ok()? else {
        return None;
    };
    let mut info = LockInfo {
        id: String::new(),
        operation: String::new(),
        info: String::new(),
        who: String::new(),
        version: String::new(),
        created: String::new(),
        path: String::new(),
    };
    for (name, value) in fields {
        let field = match name.to_ascii_lowercase().as_str() {
            "id" => &mut info.id,
            "operation" => &mut info.operation,
            "info" => &mut info.info,
            "who" => &mut info.who,
            "version" => &mut info.version,
            "created" => &mut info.created,
            "path" => &mut info.path,
            _ => continue,
        };
        match value {
            Value::Null => {}
            Value::String(text) => *field = text,
            _ => return None,
        }
    }
    Some(info)
}

/// The record as Terraform shows it, without a final newline. Control characters, which could play tricks on a
/// terminal, are replaced.
pub(crate) fn to_text(info: &LockInfo) -> String {
    let created = match info.created.split_once('T') {
        Some((date, time)) if time.ends_with('Z') => {
            format!("{date} {} +0000 UTC", time.trim_end_matches('Z'))
        }
        _ => info.created.clone(),
    };
    let fields = [
        ("ID:        ", &info.id),
        ("Path:      ", &info.path),
        ("Operation: ", &info.operation),
        ("Who:       ", &info.who),
        ("Version:   ", &info.version),
        ("Created:   ", &created),
        ("Info:      ", &info.info),
    ];
    let mut text = String::from("Lock Info:");
    for (name, value) in fields {
        text.push_str("\n  ");
        text.push_str(name);
        text.extend(value.chars().map(|character| match character {
            character if character.is_control() => char::REPLACEMENT_CHARACTER,
            character => character,
        }));
    }
    text
}

/// A date of RFC 3339 in the form that Go writes: UTC, at most nine digits of fraction, none of them a trailing zero.
/// None: it is no such date.
pub(crate) fn normalised_date(date: &str) -> Option<String> {
    let (seconds, fraction) = parse_rfc3339(date)?;
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    if !(0..=9999).contains(&year) {
        return None;
    }
    let (hour, minute, second) = (
        seconds.div_euclid(3600).rem_euclid(24),
        seconds.div_euclid(60).rem_euclid(60),
        seconds.rem_euclid(60),
    );
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{fraction}Z"
    ))
}

/// Go's escapes, those for HTML included.
fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURED: &str = "{\"ID\":\"6ac9afb1-bea5-6ba0-333e-114b1e2fb569\",\
        \"Operation\":\"OperationTypeApply\",\"Info\":\"\",\"Who\":\"root@vm\",\
        \"Version\":\"1.11.4\",\"Created\":\"2026-11-23T01:25:24.164382378Z\",\
        \"Path\":\"tfstate/lockfile/terraform.tfstate\"}";

    #[test]
    fn a_record_of_terraform_is_read_and_written_byte_for_byte() {
        let info = from_json(CAPTURED.as_bytes()).unwrap();
        assert_eq!(info.who, "root@vm");
        assert_eq!(to_json(&info), CAPTURED);
    }

    #[test]
    fn strings_are_escaped_as_go_does() {
        let mut info = from_json(b"{}").unwrap();
        info.info = "\"\\\n\r\t\u{8}\u{c}\u{1}\u{1f}<>&\u{2028}\u{2029}\u{7f}/é😀".to_owned();
        let escaped =
            "\\\"\\\\\\n\\r\\t\\b\\f\\u0001\\u001f\\u003c\\u003e\\u0026\\u2028\\u2029\u{7f}/é😀";
        assert!(to_json(&info).contains(&format!("\"Info\":\"{escaped}\",")));
        assert_eq!(
            from_json(to_json(&info).as_bytes()).unwrap().info,
            info.info
        );
    }

    #[test]
    fn reading_is_as_lenient_as_go() {
        let json = b"{\"id\":\"x\",\"WHO\":\"\xff\",\"Info\":null,\"New\":{\"a\":[1]}}";
        let info = from_json(json).unwrap();
        assert_eq!((info.id.as_str(), info.who.as_str()), ("x", "\u{fffd}"));
        for garbage in ["", "null", "[]", "{\"ID\":7}", "{\"ID\":\"x\"", "{} {}"] {
            assert!(from_json(garbage.as_bytes()).is_none(), "{garbage}");
        }
    }

    #[test]
    fn dates_are_brought_into_the_form_of_go() {
        for (given, normal) in [
            (
                "2026-11-23T01:25:14.197208790Z",
                "2026-11-23T01:25:14.19720879Z",
            ),
            ("2026-11-23T01:25:14.000Z", "2026-11-23T01:25:14Z"),
            (
                "2026-11-23t01:25:14.1234567899z",
                "2026-11-23T01:25:14.123456789Z",
            ),
            ("2026-03-01T00:30:00+01:00", "2026-02-28T23:30:00Z"),
            ("2024-02-28T23:30:00-01:00", "2024-02-29T00:30:00Z"),
            ("1999-12-31T23:59:59-00:01", "2000-01-01T00:00:59Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(normalised_date(given).as_deref(), Some(normal), "{given}");
        }
    }

    #[test]
    fn what_go_cannot_parse_is_no_date() {
        for garbage in [
            "",
            "now",
            "2026-11-23",
            "2026-11-23 01:25:14Z",
            "2026-11-23T01:25:14",
            "2026-11-23T01:25:14.Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T23:59:60Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "26-11-23T01:25:14Z",
            "2026-11-23T01:25:14+1:00",
            "2026-11-23T01:25:14+24:00",
            "2026-11-23T01:25:14.+5Z",
            "0000-01-01T00:00:00+01:00",
            "２026-11-23T01:25:14Z",
        ] {
            assert_eq!(normalised_date(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn the_text_is_terraforms_and_harmless_to_a_terminal() {
        let mut info = from_json(CAPTURED.as_bytes()).unwrap();
        info.info = "\u{1b}[2J".to_owned();
        assert_eq!(
            to_text(&info),
            "Lock Info:\n  ID:        6ac9afb1-bea5-6ba0-333e-114b1e2fb569\n  \
             Path:      tfstate/lockfile/terraform.tfstate\n  Operation: OperationTypeApply\n  \
             Who:       root@vm\n  Version:   1.11.4\n  \
             Created:   2026-11-23 01:25:24.164382378 +0000 UTC\n  Info:      \u{fffd}[2J"
        );
    }
}
