//! What the instances of one store share of their credentials, in the host's memory.
//!
//! A host works on calls at the same time, each in an instance of its own. Without this module sixteen of them would
//! assume a role sixteen times, and each would check once more whose credentials they are. A host that shares nothing
//! denies the path; every instance then fetches for itself.

use serde_json::Value;
use zeroize::Zeroizing;

use crate::platform::{AccessKey, Credentials, Refusal, Surroundings};
use crate::secret::Secret;

use super::wire::{self, take_text};

/// No file can have this name: a host that does not know it can't put it on a disk.
pub(crate) const PATH: &str = "\0credentials";

/// The credentials of each layer, the outermost first, as [`super::session`] keeps them.
type Layers = Vec<Option<Credentials>>;

/// What others fetched and checked. None: nobody did; they wait until this instance has, or its call ends.
pub(super) fn read(surroundings: &dyn Surroundings) -> Option<Layers> {
    let bytes = surroundings.read_file(PATH).ok()?;
    let bytes = Zeroizing::new(bytes);
    let mut object = wire::json(&bytes)?;
    let layers = object.get_mut("layers")?.as_array_mut()?;
    Some(layers.iter_mut().map(layer).collect())
}

/// Says that what was read last is no good any more.
pub(super) fn discard(surroundings: &dyn Surroundings) {
    keep(surroundings, b"");
}

/// Hands credentials to the others.
pub(super) fn offer(surroundings: &dyn Surroundings, layers: &Layers) {
    let mut json = Zeroizing::new(String::from("{\"layers\":["));
    for (index, layer) in layers.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        match layer {
            Some(credentials) => json.push_str(&written(credentials)),
            None => json.push_str("null"),
        }
    }
    json.push_str("]}");
    keep(surroundings, json.as_bytes());
}

/// A host that shares nothing refuses; then there is nothing to do.
fn keep(surroundings: &dyn Surroundings, bytes: &[u8]) {
    let _: Result<(), Refusal> = surroundings.replace_file(PATH, bytes);
}

fn written(credentials: &Credentials) -> Zeroizing<String> {
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    let key = &credentials.key;
    let token = key.session_token.as_ref().map(Secret::expose);
    wire::json_of(&[
        ("id", &Value::from(key.id.as_str())),
        ("secret", &Value::from(key.secret.expose())),
        ("token", &text(token)),
        (
            "end",
            &credentials.expires_at.map_or(Value::Null, Value::from),
        ),
        ("account", &text(credentials.account_id.as_deref())),
    ])
}

fn layer(object: &mut Value) -> Option<Credentials> {
    let expires_at = object.get("end").and_then(Value::as_u64);
    let mut text = |name| take_text(object, name);
    Some(Credentials {
        key: AccessKey {
            id: text("id")?,
            secret: Secret::new(text("secret")?),
            session_token: text("token").map(Secret::new),
        },
        expires_at,
        account_id: text("account"),
    })
}
