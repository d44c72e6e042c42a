//! The component's exports: each hands its call to the library and adds nothing.

use crate::bindings;
use crate::bindings::exports::cofferdam::state_backend::inspection::{
    DigestReport, Guest as Inspection, Policy, PolicyOptions, ProbeOptions,
};
use crate::bindings::exports::cofferdam::state_backend::state_store::{
    Guest, GuestStore, Opened, Store as StoreHandle, StoreBorrow,
};
use crate::config;
use crate::contract::{
    DeleteOptions, Diagnostic, Error, HeldLock, Holder, LockInfo, OpenOptions, Reading, Revision,
    UnlockBy, WriteOptions,
};
use crate::policy;
use crate::store::Store;
use crate::wasi::Wasi;

struct Component;

impl Guest for Component {
    type Store = Store<Wasi>;

    fn schema() -> String {
        config::schema_json()
    }

    fn validate(config: String) -> Vec<Diagnostic> {
        diagnostics(config::validate(&config, &Wasi))
    }

    fn explain(config: String) -> Result<String, Vec<Diagnostic>> {
        config::explain(&config, &Wasi).map_err(diagnostics)
    }
}

impl GuestStore for Store<Wasi> {
    fn open(config: String, options: OpenOptions) -> Result<Opened, Vec<Diagnostic>> {
        let (store, warnings) = Store::open(Wasi, &config, options)?;
        Ok(Opened {
            store: StoreHandle::new(store),
            warnings,
        })
    }

    fn workspaces(&self) -> Result<Vec<String>, Error> {
        self.workspaces()
    }

    fn read(&self, workspace: String, known: Option<Revision>) -> Result<Reading, Error> {
        self.read(&workspace, known.as_ref())
    }

    fn write(
        &self,
        workspace: String,
        bytes: Vec<u8>,
        options: WriteOptions,
    ) -> Result<Revision, Error> {
        self.write(&workspace, &bytes, &options)
    }

    fn delete(&self, workspace: String, options: DeleteOptions) -> Result<(), Error> {
        self.delete(&workspace, &options)
    }

    fn lock(&self, workspace: String, info: LockInfo) -> Result<HeldLock, Error> {
        self.lock(&workspace, info)
    }

    fn unlock(&self, workspace: String, by: UnlockBy) -> Result<(), Error> {
        self.unlock(&workspace, &by)
    }

    fn holders(&self, workspace: String) -> Result<Vec<Holder>, Error> {
        self.holders(&workspace)
    }
}

impl Inspection for Component {
    fn probe(store: StoreBorrow<'_>, options: ProbeOptions) -> Result<String, Error> {
        store.get::<Store<Wasi>>().probe(options)
    }

    fn compare_digest(store: StoreBorrow<'_>, workspace: String) -> Result<DigestReport, Error> {
        store.get::<Store<Wasi>>().compare_digest(&workspace)
    }

    fn least_policy(config: String, options: PolicyOptions) -> Result<Policy, Vec<Diagnostic>> {
        policy::least(&config, &Wasi, &options)
    }

    fn record_digest(
        store: StoreBorrow<'_>,
        workspace: String,
        expected: Option<String>,
        digest: Option<String>,
        lock: Option<HeldLock>,
    ) -> Result<(), Error> {
        store.get::<Store<Wasi>>().record_digest(
            &workspace,
            expected.as_deref(),
            digest.as_deref(),
            lock.as_ref(),
        )
    }
}

fn diagnostics(own: Vec<config::Diagnostic>) -> Vec<Diagnostic> {
    own.into_iter().map(Diagnostic::from).collect()
}

#[allow(
    unsafe_code,
    unused_qualifications,
    reason = "the generated glue that lifts and lowers values"
)]
mod glue {
    use super::{Component, bindings};

    bindings::export!(Component with_types_in bindings);
}
