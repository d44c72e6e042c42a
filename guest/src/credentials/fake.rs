//! A machine and services that exist only here: every call is recorded, and time passes when a test says so.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reports by panicking"
)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::config::{Diagnostic, Environment};
use crate::platform::{
    Clock, HttpRequest, HttpResponse, Random, Refusal, Surroundings, Transport, TransportError,
};

/// Variables, files, commands, and services that hand out numbered credentials.
pub(super) struct Fake {
    variables: BTreeMap<String, String>,
    pub(super) files: BTreeMap<String, String>,
    pub(super) commands: BTreeMap<String, String>,
    /// Seconds.
    pub(super) now: Cell<u64>,
    /// Life of what the services hand out. Seconds.
    pub(super) life: Cell<u64>,
    pub(super) lent: RefCell<Option<Credentials>>,
    pub(super) identity: Cell<Result<&'static str, &'static str>>,
    /// Why all services but `identity` fail.
    pub(super) outage: Cell<Option<&'static str>>,
    pub(super) calls: RefCell<Vec<String>>,
    counter: Cell<u32>,
}

impl Fake {
    pub(super) fn new(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self {
            variables: variables.collect(),
            files: BTreeMap::new(),
            commands: BTreeMap::new(),
            now: Cell::new(1_000_000),
            life: Cell::new(3600),
            lent: RefCell::new(None),
            identity: Cell::new(Ok("arn:aws:iam::111122223333:user/me")),
            outage: Cell::new(None),
            calls: RefCell::new(Vec::new()),
            counter: Cell::new(0),
        }
    }

    pub(super) fn with_file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// What was called since the last time.
    pub(super) fn called(&self) -> Vec<String> {
        self.calls.take()
    }

    fn issue(&self, call: String) -> Result<Credentials, ProviderError> {
        self.calls.borrow_mut().push(call);
        if let Some(reason) = self.outage.get() {
            return Err(ProviderError::new(reason));
        }
        self.counter.set(self.counter.get() + 1);
        Ok(key(
            &format!("ASIA{}", self.counter.get()),
            Some(self.now.get() + self.life.get()),
        ))
    }
}

/// Credentials that expire then.
pub(super) fn key(id: &str, expires_at: Option<u64>) -> Credentials {
    Credentials {
        key: AccessKey {
            id: id.to_owned(),
            secret: Secret::new("CANARY-SECRET".to_owned()),
            session_token: None,
        },
        expires_at,
        account_id: None,
    }
}

impl Environment for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

impl Surroundings for Fake {
    fn credentials(&self) -> Option<Credentials> {
        self.lent.borrow().clone()
    }

    fn read_file(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        let text = self.files.get(path).ok_or(Refusal::NotFound)?;
        Ok(text.clone().into_bytes())
    }

    fn run(&self, command: &str) -> Result<Vec<u8>, Refusal> {
        self.calls.borrow_mut().push(format!("run {command}"));
        let printed = self.commands.get(command).ok_or(Refusal::Denied)?;
        Ok(printed.clone().into_bytes())
    }

    fn report(&self, diagnostic: Diagnostic) {
        panic!("{diagnostic:?}");
    }
}

impl Clock for Fake {
    fn now(&self) -> Duration {
        Duration::from_secs(self.now.get())
    }

    fn monotonic(&self) -> Duration {
        self.now()
    }

    fn sleep(&self, duration: Duration) {
        self.now.set(self.now.get() + duration.as_secs());
    }
}

impl Random for Fake {
    fn next_u64(&self) -> u64 {
        0
    }
}

impl Transport for Fake {
    fn send(&self, _request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        Err(TransportError::Denied(
            "no request comes this far".to_owned(),
        ))
    }
}

impl Providers for Fake {
    fn account(
        &self,
        credentials: &Credentials,
        instance: Option<&ImdsArguments>,
    ) -> Result<Identity, ProviderError> {
        let whose = instance.map_or("", |_| " of the instance");
        let call = format!("account{whose} with {}", credentials.key.id);
        self.calls.borrow_mut().push(call);
        let arn = self.identity.get().map_err(ProviderError::new)?;
        Ok(Identity {
            arn: arn.to_owned(),
        })
    }

    fn assume_role(
        &self,
        role: &RoleArguments,
        from: &Credentials,
    ) -> Result<Credentials, ProviderError> {
        self.issue(format!("assume {} with {}", role.role_arn, from.key.id))
    }

    fn assume_role_with_web_identity(
        &self,
        role: &WebIdentityArguments,
    ) -> Result<Credentials, ProviderError> {
        self.issue(format!("assume {} with a token", role.role_arn))
    }

    fn caller_identity(&self, credentials: &Credentials) -> Result<Identity, ProviderError> {
        let call = format!("identity of {}", credentials.key.id);
        self.calls.borrow_mut().push(call);
        let arn = self.identity.get().map_err(ProviderError::new)?;
        Ok(Identity {
            arn: arn.to_owned(),
        })
    }

    fn container(&self, _arguments: &ContainerArguments) -> Result<Credentials, ProviderError> {
        self.issue("container".to_owned())
    }

    fn imds(&self, arguments: &ImdsArguments) -> Result<Credentials, ProviderError> {
        self.issue(format!("instance at {}", arguments.endpoint))
    }

    fn sso(&self, arguments: &SsoArguments) -> Result<Credentials, ProviderError> {
        self.issue(format!("sso of {}", arguments.profile))
    }
}
