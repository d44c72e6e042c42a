//! What every implementation of the contract must do, as functions that take one.
//!
//! The same cases run on the backend's logic compiled natively and on the component in its sandbox, so that
//! neither the sandbox nor the native build can hide a defect of the other. Each judges by behaviour, and
//! by what the embedded store saw: a lock that works but costs three requests is wrong too.

pub mod faults;
pub mod fencing;
pub mod locks;
pub mod states;
pub mod workspaces;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use cofferdam::dev_store::{DevStore, Fault, FaultRule};
use cofferdam::{
    Diagnostic, Error, ErrorCode, Expectation, Fence, HeldLock, LockInfo, Reading, Revision, State,
    StateStore, StoreError, WriteOptions,
};
use serde_json::Value;

use crate::Site;

/// The key of the states in every case.
pub const KEY: &str = "app/terraform.tfstate";
/// Where the lock of `default` lies.
pub const LOCK: &str = "app/terraform.tfstate.tflock";

/// All cases, by the module that they stand in.
pub fn all() -> Vec<Case> {
    [
        states::CASES,
        locks::CASES,
        fencing::CASES,
        faults::CASES,
        workspaces::CASES,
    ]
    .concat()
}

/// One thing that must hold.
#[derive(Clone, Copy)]
pub struct Case {
    /// The sentence, with the name of its module before it.
    pub name: &'static str,
    /// Whether it can only be shown with a clock that moves; see [`Flavour::pass_time`].
    pub moves_time: bool,
    /// Panics where it does not hold.
    pub run: fn(Fixture) -> Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Lists the cases of a module; `moves_time` stands after those that need a clock of their own. A function that
/// is missing in the list is unused, and the compiler says so.
macro_rules! cases {
    (@mark) => { false };
    (@mark moves_time) => { true };
    ($module:literal: $($name:ident $(: $mark:ident)?),+ $(,)?) => {
        /// The cases of this module.
        pub const CASES: &[$crate::conformance::Case] = &[$(
            $crate::conformance::Case {
                name: concat!($module, "::", stringify!($name)),
                moves_time: $crate::conformance::cases!(@mark $($mark)?),
                run: |fixture| Box::pin($name(fixture)),
            },
        )+];
    };
}
use cases;

/// A way to run the backend.
#[async_trait]
pub trait Flavour: Send + Sync {
    /// What it is called in the names of tests.
    fn name(&self) -> &'static str;

    /// Opens a store.
    async fn open(&self, opening: Opening) -> Result<Arc<dyn StateStore>, Error>;

    /// Lets this many seconds pass for the stores that are open.
    ///
    /// # Panics
    /// Where time cannot be moved.
    fn pass_time(&self, seconds: u64);
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The backend block.
    pub block: Value,
    /// Whether a store without conditional writes will do.
    pub fence: Fence,
    /// The largest state. Bytes.
    pub max_state: u64,
    /// Where its warnings go.
    pub warnings: Warnings,
}

impl Opening {
    /// A store that must honour conditional writes, for states of up to 100 MB.
    pub fn new(block: Value) -> Self {
        Self {
            block,
            fence: Fence::Required,
            max_state: 100_000_000,
            warnings: Warnings::default(),
        }
    }
}

/// Warnings as they come.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<Diagnostic>>>);

impl Warnings {
    /// Adds one.
    pub fn push(&self, diagnostic: Diagnostic) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(diagnostic);
    }

    /// Takes those that came so far.
    pub fn take(&self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a case works with: an embedded store of its own, and a state store opened on it.
pub struct Fixture {
    /// The embedded store.
    pub server: DevStore,
    /// The same, as a site.
    pub site: Site,
    /// The states under [`KEY`].
    pub store: Arc<dyn StateStore>,
    /// What `store` warned of.
    pub warnings: Warnings,
    flavour: Arc<dyn Flavour>,
}

impl Fixture {
    /// Starts an embedded store and opens the states under [`KEY`].
    pub async fn new(flavour: Arc<dyn Flavour>) -> Self {
        let server = DevStore::builder()
            .start()
            .await
            .expect("the embedded store starts");
        let site = Site::of(&server);
        let opening = Opening::new(site.block(KEY));
        let warnings = opening.warnings.clone();
        let store = flavour.open(opening).await.expect("the store opens");
        Self {
            server,
            site,
            store,
            warnings,
            flavour,
        }
    }

    /// Opens another store whose block differs in what `change` does to it.
    pub async fn open(&self, change: impl FnOnce(&mut Value)) -> Arc<dyn StateStore> {
        self.open_with(|opening| change(&mut opening.block)).await
    }

    /// Opens another store that differs in what `change` does.
    pub async fn open_with(&self, change: impl FnOnce(&mut Opening)) -> Arc<dyn StateStore> {
        let mut opening = Opening::new(self.site.block(KEY));
        opening.warnings = self.warnings.clone();
        change(&mut opening);
        self.flavour.open(opening).await.expect("the store opens")
    }

    /// Lets time pass; only in a case that is marked `moves_time`.
    pub fn pass_time(&self, seconds: u64) {
        self.flavour.pass_time(seconds);
    }

    /// Makes the next request of this operation whose key ends so fail, once.
    pub fn fail_once(&self, operation: &str, key: &str, fault: Fault) {
        self.fail(operation, key, 1, fault);
    }

    /// The same, as often as said.
    pub fn fail(&self, operation: &str, key: &str, times: u32, fault: Fault) {
        self.server.inject(FaultRule {
            operation: Some(operation.to_owned()),
            key_ends_with: Some(key.to_owned()),
            skip: 0,
            times,
            fault,
        });
    }

    /// What the server saw since the last call of this, a line for each request:
    /// `PUT app/terraform.tfstate if-match 200`.
    pub fn seen(&self) -> Vec<String> {
        let seen = self
            .server
            .requests()
            .iter()
            .map(|request| {
                let key = if request.key.is_empty() {
                    "(list)"
                } else {
                    &request.key
                };
                let on_match = if request.if_match.is_some() {
                    " if-match"
                } else {
                    ""
                };
                let on_none = if request.if_none_match.is_some() {
                    " if-none-match"
                } else {
                    ""
                };
                format!(
                    "{} {key}{on_match}{on_none} {}",
                    request.method, request.status
                )
            })
            .collect();
        self.server.clear_requests();
        seen
    }

    /// Forgets what the server saw.
    pub fn forget(&self) {
        self.server.clear_requests();
    }

    /// Stores a state with this text, fenced on what is there, without a lock.
    pub async fn store_state(&self, text: &str) -> Revision {
        let expect = match self.read().await {
            Some(state) => Expectation::Revision(state.revision),
            None => Expectation::Absent,
        };
        write(&*self.store, "default", text, expect)
            .await
            .expect("the state is stored")
    }

    /// Reads `default`.
    pub async fn read(&self) -> Option<State> {
        match self
            .store
            .read("default", None)
            .await
            .expect("the state is read")
        {
            Reading::State(state) => Some(state),
            _ => None,
        }
    }

    /// The text of an object in the server, seen without a request.
    pub fn object(&self, key: &str) -> Option<String> {
        let bytes = self.server.object(key)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Stores an object behind everybody's back, without a request.
    pub fn put(&self, key: &str, body: impl Into<Bytes>) {
        self.server
            .put_object(key, body)
            .expect("the embedded store takes an object");
    }

    /// Deletes one behind everybody's back.
    pub fn remove(&self, key: &str) {
        self.server
            .delete_object(key)
            .expect("the embedded store deletes an object");
    }

    /// Takes the lock of `default`.
    pub async fn lock(&self) -> HeldLock {
        self.store
            .lock("default", &info("the-holder"))
            .await
            .expect("the lock is free")
    }
}

/// Writes a text without a lock.
pub async fn write(
    store: &dyn StateStore,
    workspace: &str,
    text: &str,
    expect: Expectation,
) -> Result<Revision, Error> {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    store
        .write(workspace, bytes, &WriteOptions { expect, lock: None })
        .await
}

/// A lock record with this id.
pub fn info(id: &str) -> LockInfo {
    LockInfo {
        id: id.to_owned(),
        operation: "OperationTypeApply".to_owned(),
        info: String::new(),
        who: "tester@bench".to_owned(),
        version: "1.11.4".to_owned(),
        created: "2026-11-23T01:25:24.164382378Z".to_owned(),
        path: String::new(),
    }
}

/// The record of [`info`] as it must be stored, byte for byte as Go writes it.
pub fn record(site: &Site, id: &str, state_key: &str) -> String {
    let bucket = &site.bucket;
    format!(
        r#"{{"ID":"{id}","Operation":"OperationTypeApply","Info":"","Who":"tester@bench","Version":"1.11.4","Created":"2026-11-23T01:25:24.164382378Z","Path":"{bucket}/{state_key}"}}"#
    )
}

/// The backend's error, which must have this code, and which must not hold the secret key.
pub fn refusal<T: std::fmt::Debug>(
    site: &Site,
    result: Result<T, Error>,
    code: ErrorCode,
) -> StoreError {
    let error = result.expect_err("the call is refused");
    let text = format!("{error:?} {error}");
    assert!(
        !text.contains(&site.secret_access_key),
        "an error shows the secret key"
    );
    match error {
        Error::Store(error) => {
            assert_eq!(error.code, code, "{error:?}");
            error
        }
        other => panic!("an error of the backend was expected, not {other:?}"),
    }
}
