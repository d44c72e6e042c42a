//! What the host reads out of a state: serial and lineage for the guards of a push, and what a workspace
//! still tracks before it is deleted.
//!
//! A store only moves bytes. Without these guards an old copy, or another project's state, would replace
//! the newest one with nothing but the person's attention against it.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The state format that Terraform and OpenTofu write.
const FORMAT: u64 = 4;

/// What tells one state from another. Read from Terraform's format and from OpenTofu's encrypted envelope,
/// which leaves both in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateHeader {
    /// Counts the changes of one lineage.
    pub serial: u64,
    /// Names the history that a state belongs to; may be empty.
    pub lineage: String,
    /// Whether it is OpenTofu's encrypted envelope.
    pub encrypted: bool,
}

/// Why bytes are not a state. Shows nothing of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAState {
    /// They begin with a byte order mark.
    #[error("it begins with a byte order mark; a state is UTF-8 without one")]
    ByteOrderMark,
    /// There are none.
    #[error("it is empty")]
    Empty,
    /// JSON, but without what every state has.
    #[error("it has no `{0}`, which every state has")]
    Missing(&'static str),
    /// They are not JSON, or not an object with the fields of a state.
    #[error("it is not the JSON of a state (line {line}, column {column})")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// They are not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A state of another format.
    #[error("it has the state format version {0}; only version 4 is supported")]
    OtherFormat(u64),
}

impl StateHeader {
    /// Reads the header. The rest is skipped, but must be JSON.
    ///
    /// # Errors
    /// When the bytes are neither a state of format 4 nor OpenTofu's encrypted envelope.
    pub fn read(bytes: &[u8]) -> Result<Self, NotAState> {
        let head: Head<'_> = parse(bytes)?;
        let encrypted = head.encryption_version.is_some() && head.encrypted_data.is_some();
        match head.version {
            _ if encrypted => {}
            Some(FORMAT) => {}
            Some(version) => return Err(NotAState::OtherFormat(version)),
            None => return Err(NotAState::Missing("version")),
        }
        Ok(Self {
            serial: head.serial.ok_or(NotAState::Missing("serial"))?,
            lineage: head.lineage.unwrap_or_default().into_owned(),
            encrypted,
        })
    }
}

/// What a push would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The stored state has the same contents: there is nothing to write.
    Same,
    /// The pushed state may be stored.
    Store,
}

/// Why a push is refused. The texts are Terraform's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushRefusal {
    /// What is to be pushed is not a state. Forcing does not help.
    #[error("cannot push this file: {0}")]
    NotAState(NotAState),
    /// The two states do not belong together.
    #[error(
        "cannot import state with lineage {pushed:?} over unrelated state with lineage {stored:?}"
    )]
    OtherLineage {
        /// Lineage of the pushed state.
        pushed: String,
        /// Lineage of the stored state.
        stored: String,
    },
    /// The stored state is newer.
    #[error("cannot import state with serial {pushed} over newer state with serial {stored}")]
    Older {
        /// Serial of the pushed state.
        pushed: u64,
        /// Serial of the stored state.
        stored: u64,
    },
    /// Both were changed at the same serial.
    #[error(
        "cannot overwrite existing state with serial {0} with a different state that has the same serial"
    )]
    SameSerial(u64),
    /// What is stored cannot be compared.
    #[error("cannot compare with the stored state: {0}")]
    StoredUnreadable(NotAState),
}

/// Terraform's guards of a push: whether a state may follow the stored one (`None`: there is none). With
/// `force` only what is no state at all is refused.
///
/// States of the same serial count as equal when they differ in nothing but white space between tokens.
///
/// # Errors
/// When Terraform would refuse the push, or either side cannot be read.
pub fn check_push(stored: Option<&[u8]>, pushed: &[u8], force: bool) -> Result<Push, PushRefusal> {
    let new = StateHeader::read(pushed).map_err(PushRefusal::NotAState)?;
    let Some(stored) = stored else {
        return Ok(Push::Store);
    };
    if stored == pushed {
        return Ok(Push::Same);
    }
    if force {
        return Ok(Push::Store);
    }
    let old = StateHeader::read(stored).map_err(PushRefusal::StoredUnreadable)?;
    if old.lineage.is_empty() || new.lineage.is_empty() {
        return Ok(Push::Store);
    }
    if old.lineage != new.lineage {
        return Err(PushRefusal::OtherLineage {
            pushed: new.lineage,
            stored: old.lineage,
        });
    }
    match new.serial.cmp(&old.serial) {
        std::cmp::Ordering::Greater => Ok(Push::Store),
        std::cmp::Ordering::Equal if significant(stored).eq(significant(pushed)) => Ok(Push::Same),
        std::cmp::Ordering::Equal => Err(PushRefusal::SameSerial(new.serial)),
        std::cmp::Ordering::Less => Err(PushRefusal::Older {
            pushed: new.serial,
            stored: old.serial,
        }),
    }
}

/// What a state still tracks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// It is encrypted: nobody can tell without the key.
    Encrypted,
    /// Addresses of the managed resource instances, in the state's order.
    Instances(Vec<String>),
}

/// The managed resource instances of a state, data sources left out.
///
/// # Errors
/// When the bytes are not a state.
pub fn tracked(bytes: &[u8]) -> Result<Tracked, NotAState> {
    if StateHeader::read(bytes)?.encrypted {
        return Ok(Tracked::Encrypted);
    }
    let Resources { resources } = parse(bytes)?;
    let managed = resources
        .iter()
        .flatten()
        .filter(|resource| resource.mode == "managed");
    Ok(Tracked::Instances(
        managed
            .flat_map(|resource| {
                resource
                    .instances
                    .iter()
                    .map(move |instance| resource.address(instance))
            })
            .collect(),
    ))
}

/// The empty state that Terraform writes for a new workspace: a new lineage, serial 1.
pub fn empty_state() -> String {
    format!(
        "{{\n  \"version\": {FORMAT},\n  \"terraform_version\": \"{TERRAFORM_VERSION}\",\n  \"serial\": 1,\n  \"lineage\": \"{}\",\n  \"outputs\": {{}},\n  \"resources\": [],\n  \"check_results\": null\n}}\n",
        uuid::Uuid::new_v4()
    )
}

/// Written into new states. Both tools refuse a state that a newer version of theirs wrote, so it is the
/// oldest Terraform whose states have all the fields of [`empty_state`].
const TERRAFORM_VERSION: &str = "1.3.0";

#[derive(Deserialize)]
struct Head<'a> {
    version: Option<u64>,
    serial: Option<u64>,
    #[serde(borrow)]
    lineage: Option<Cow<'a, str>>,
    encryption_version: Option<IgnoredAny>,
    encrypted_data: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Resources<'a> {
    #[serde(borrow)]
    resources: Option<Vec<Resource<'a>>>,
}

#[derive(Deserialize)]
struct Resource<'a> {
    #[serde(borrow, default)]
    module: Cow<'a, str>,
    #[serde(borrow, default)]
    mode: Cow<'a, str>,
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(default)]
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    index_key: Option<IndexKey>,
    deposed: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum IndexKey {
    Number(serde_json::Number),
    Text(String),
}

impl Resource<'_> {
    fn address(&self, instance: &Instance) -> String {
        let mut address = match self.module.as_ref() {
            "" => String::new(),
            module => format!("{module}."),
        };
        address += &format!("{}.{}", self.kind, self.name);
        match &instance.index_key {
            None => {}
            Some(IndexKey::Number(index)) => address += &format!("[{index}]"),
            Some(IndexKey::Text(key)) => address += &format!("[{key:?}]"),
        }
        if let Some(deposed) = &instance.deposed {
            address += &format!(" (deposed object {deposed})");
        }
        address
    }
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, NotAState> {
    if bytes.is_empty() {
        return Err(NotAState::Empty);
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(NotAState::ByteOrderMark);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NotAState::NotUtf8)?;
    serde_json::from_str(text).map_err(|error| NotAState::NotJson {
        line: error.line(),
        column: error.column(),
    })
}

/// The bytes of a JSON text without the white space between its tokens.
fn significant(json: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut in_string = false;
    let mut escaped = false;
    json.iter().copied().filter(move |&byte| {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            return true;
        }
        in_string = byte == b'"';
        !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
    })
}

impl fmt::Display for StateHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "serial {}, lineage {:?}", self.serial, self.lineage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(serial: u64, lineage: &str, outputs: &str) -> Vec<u8> {
        format!(r#"{{"version":4,"terraform_version":"1.11.4","serial":{serial},"lineage":"{lineage}","outputs":{outputs},"resources":[],"check_results":null}}"#).into_bytes()
    }

    fn push(stored: &[u8], pushed: &[u8]) -> Result<Push, String> {
        check_push(Some(stored), pushed, false).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn the_header_of_a_plain_and_of_an_encrypted_state_is_read() {
        assert_eq!(
            StateHeader::read(&state(7, "a", "{}")).unwrap(),
            StateHeader {
                serial: 7,
                lineage: "a".into(),
                encrypted: false
            }
        );
        let envelope = br#"{"serial":3,"lineage":"b","meta":{"key":"x"},"encrypted_data":"AAAA","encryption_version":"v0"}"#;
        assert_eq!(
            StateHeader::read(envelope).unwrap(),
            StateHeader {
                serial: 3,
                lineage: "b".into(),
                encrypted: true
            }
        );
    }

    #[test]
    fn what_is_no_state_is_refused_without_showing_it() {
        for (bytes, reason) in [
            (&b""[..], "empty"),
            (b"\xef\xbb\xbf{}", "byte order mark"),
            (b"{\"version\":4,\"serial\":1,\"x\":\"\xff\"}", "UTF-8"),
            (b"hunter2", "not the JSON"),
            (b"[4]", "not the JSON"),
            (b"{\"version\":4,\"serial\":1", "not the JSON"),
            (b"{\"version\":4,\"serial\":1} hunter2", "not the JSON"),
            (b"{}", "no `version`"),
            (b"{\"version\":4}", "no `serial`"),
            (b"{\"version\":3,\"serial\":1}", "format version 3"),
            (b"{\"version\":4,\"serial\":-1}", "not the JSON"),
            (b"{\"version\":4,\"serial\":1,\"serial\":2}", "not the JSON"),
        ] {
            let text = check_push(None, bytes, true).unwrap_err().to_string();
            assert!(text.contains(reason), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn the_guards_follow_terraforms_order_and_words() {
        let stored = state(5, "a", "{}");
        assert_eq!(
            check_push(None, &state(1, "z", "{}"), false),
            Ok(Push::Store)
        );
        assert_eq!(push(&stored, &stored), Ok(Push::Same));
        assert_eq!(push(&stored, &state(6, "a", "{}")), Ok(Push::Store));
        assert_eq!(push(&stored, &state(1, "", "{}")), Ok(Push::Store));
        assert_eq!(
            push(&state(9, "", "{}"), &state(1, "z", "{}")),
            Ok(Push::Store)
        );
        assert_eq!(
            push(&stored, &state(9, "b", "{}")).unwrap_err(),
            r#"cannot import state with lineage "b" over unrelated state with lineage "a""#
        );
        assert_eq!(
            push(&stored, &state(4, "a", "{}")).unwrap_err(),
            "cannot import state with serial 4 over newer state with serial 5"
        );
        assert_eq!(
            push(&stored, &state(5, "a", r#"{"x":{"value":1}}"#)).unwrap_err(),
            "cannot overwrite existing state with serial 5 with a different state that has the same serial"
        );
    }

    #[test]
    fn white_space_between_tokens_does_not_make_a_different_state() {
        let stored = state(5, "a", r#"{"x":{"value":"a \" b"}}"#);
        let spaced = String::from_utf8(stored.clone())
            .unwrap()
            .replace(',', ",\n  ")
            .into_bytes();
        assert_eq!(push(&stored, &spaced), Ok(Push::Same));
        let other = state(5, "a", r#"{"x":{"value":"a \"  b"}}"#);
        assert!(push(&stored, &other).is_err());
    }

    #[test]
    fn force_skips_the_guards_but_not_the_check_that_it_is_a_state() {
        let stored = state(5, "a", "{}");
        assert_eq!(
            check_push(Some(&stored), &state(1, "b", "{}"), true),
            Ok(Push::Store)
        );
        assert_eq!(check_push(Some(b"garbage"), &stored, true), Ok(Push::Store));
        assert!(matches!(
            check_push(Some(b"garbage"), &stored, false),
            Err(PushRefusal::StoredUnreadable(_))
        ));
        assert!(matches!(
            check_push(Some(&stored), b"garbage", true),
            Err(PushRefusal::NotAState(_))
        ));
    }

    #[test]
    fn tracked_instances_carry_their_whole_address() {
        let bytes = br#"{"version":4,"serial":1,"lineage":"a","resources":[
            {"mode":"managed","type":"terraform_data","name":"a","instances":[{"attributes":{}}]},
            {"module":"module.m[\"k\"]","mode":"managed","type":"t","name":"b","instances":[{"index_key":0},{"index_key":"x"}]},
            {"mode":"managed","type":"t","name":"gone","instances":[]},
            {"mode":"managed","type":"t","name":"c","instances":[{"deposed":"00000001"}]},
            {"mode":"data","type":"d","name":"e","instances":[{}]}]}"#;
        assert_eq!(
            tracked(bytes).unwrap(),
            Tracked::Instances(vec![
                "terraform_data.a".into(),
                r#"module.m["k"].t.b[0]"#.into(),
                r#"module.m["k"].t.b["x"]"#.into(),
                "t.c (deposed object 00000001)".into(),
            ])
        );
        let envelope =
            br#"{"serial":3,"lineage":"b","encrypted_data":"AAAA","encryption_version":"v0"}"#;
        assert_eq!(tracked(envelope).unwrap(), Tracked::Encrypted);
    }

    #[test]
    fn a_new_workspace_gets_an_empty_state_of_its_own_lineage() {
        let (one, other) = (empty_state(), empty_state());
        assert_eq!(
            tracked(one.as_bytes()).unwrap(),
            Tracked::Instances(Vec::new())
        );
        let [one, other] = [one, other].map(|state| StateHeader::read(state.as_bytes()).unwrap());
        assert_eq!(one.serial, 1);
        assert_ne!(one.lineage, other.lineage);
    }
}
