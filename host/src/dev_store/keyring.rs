//! The keys that may sign: the store's own, and those of roles for as long as they last.
//!
//! Without this module a client would never meet credentials that end, and would first do so at AWS, in the middle of a
//! long run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use s3s::auth::SecretKey;
use subtle::ConstantTimeEq as _;

use super::access::OwnKey;

/// The account of the store; the one of AWS's own examples.
pub(super) const ACCOUNT: &str = "123456789012";

/// How long a key that has ended is known as one that has ended.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// All keys.
#[derive(Debug)]
pub(super) struct Keyring {
    own: OwnKey,
    /// By their ids.
    temporary: Mutex<BTreeMap<String, Temporary>>,
}

/// A key of a role's session.
#[derive(Clone, Debug)]
struct Temporary {
    secret: SecretKey,
    token: SecretKey,
    expires_at: Timestamp,
    session: Session,
}

/// Whose a temporary key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The last part of the role's ARN.
    pub(super) role: String,
    pub(super) name: String,
}

impl Session {
    /// The ARN of the session.
    pub(super) fn arn(&self) -> String {
        let Self { role, name } = self;
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}")
    }

    /// The unique id of the role, made of its name, and the session.
    pub(super) fn id(&self) -> String {
        let Self { role, name } = self;
        let mut id: String = (role.bytes().filter(u8::is_ascii_alphanumeric))
            .chain(std::iter::repeat_n(b'A', 17))
            .take(17)
            .map(|byte| char::from(byte.to_ascii_uppercase()))
            .collect();
        id.insert_str(0, "AROA");
        format!("{id}:{name}")
    }
}

/// Who signed.
#[derive(Debug)]
pub(super) struct Signer {
    pub(super) secret: SecretKey,
    /// None: the holder of the store's own key.
    pub(super) session: Option<Session>,
}

impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        self.session == other.session
    }
}

/// A key as it is handed out.
pub(super) struct Issued {
    pub(super) id: String,
    pub(super) secret: SecretKey,
    pub(super) token: SecretKey,
    pub(super) expires_at: Timestamp,
}

/// Why a key does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenProblem {
    Expired,
    /// A temporary key without its token is no key.
    NoToken,
    UnknownKey,
    WrongToken,
}

impl Keyring {
    pub(super) fn new(own: OwnKey) -> Self {
        Self {
            own,
            temporary: Mutex::default(),
        }
    }

    /// The secret of a key, whether or not it has ended.
    pub(super) fn secret(&self, id: &str) -> Option<SecretKey> {
        if id == self.own.id {
            return Some(self.own.secret.clone());
        }
        self.temporary().get(id).map(|key| key.secret.clone())
    }

    /// Whose key it is.
    pub(super) fn signer(
        &self,
        id: &str,
        token: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Signer, TokenProblem> {
        if id == self.own.id {
            return match token {
                None => Ok(Signer {
                    secret: self.own.secret.clone(),
                    session: None,
                }),
                Some(_) => Err(TokenProblem::WrongToken),
            };
        }
        let temporary = self.temporary();
        let key = temporary.get(id).ok_or(TokenProblem::UnknownKey)?;
        let token = token.ok_or(TokenProblem::NoToken)?;
        if !bool::from(key.token.expose().as_bytes().ct_eq(token)) {
            return Err(TokenProblem::WrongToken);
        }
        if key.expires_at <= now {
            return Err(TokenProblem::Expired);
        }
        Ok(Signer {
            secret: key.secret.clone(),
            session: Some(key.session.clone()),
        })
    }

    /// A new key for a session.
    pub(super) fn issue(&self, session: Session, expires_at: Timestamp, now: Timestamp) -> Issued {
        let random = || uuid::Uuid::new_v4().simple().to_string();
        let mut id = format!("ASIA{}", random().to_uppercase());
        id.truncate(20);
        let issued = Issued {
            id,
            secret: SecretKey::from(format!("{}{}", random(), random())),
            token: SecretKey::from(format!("{}{}{}", random(), random(), random())),
            expires_at,
        };
        let mut temporary = self.temporary();
        temporary.retain(|_, key| now.duration_since(key.expires_at) < REMEMBERED);
        let key = Temporary {
            secret: issued.secret.clone(),
            token: issued.token.clone(),
            expires_at,
            session,
        };
        temporary.insert(issued.id.clone(), key);
        issued
    }

    /// Ends all temporary keys.
    pub(super) fn end_sessions(&self) {
        for key in self.temporary().values_mut() {
            key.expires_at = key.expires_at.min(Timestamp::now());
        }
    }

    fn temporary(&self) -> MutexGuard<'_, BTreeMap<String, Temporary>> {
        self.temporary
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
