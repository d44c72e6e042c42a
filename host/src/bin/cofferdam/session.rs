//! What every command starts from: which backend block, which workspace, and a store that is open.

use std::cell::OnceCell;
use std::path::PathBuf;

use cofferdam::config::{BackendBlock, BackendSources, data_dir, selected_workspace};
use cofferdam::{Backend, ComponentSource, Error, Fence, Grant, Limits, Store};
use serde_json::Value;

use crate::arguments::Global;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::site::Site;

/// The options of every command, and where the command runs.
pub(crate) struct Session {
    pub(crate) global: Global,
    pub(crate) output: Output,
    interrupt: OnceCell<Interrupt>,
    opened: OnceCell<(Backend, Value)>,
}

impl Session {
    pub(crate) fn new(global: Global, output: Output) -> Self {
        Self {
            global,
            output,
            interrupt: OnceCell::new(),
            opened: OnceCell::new(),
        }
    }

    /// From the first call on signals are caught.
    pub(crate) fn interrupt(&self) -> Result<&Interrupt, Failure> {
        if self.interrupt.get().is_none() {
            // Not set yet, so this sets it.
            let _ = self.interrupt.set(Interrupt::catch(self.output)?);
        }
        self.interrupt
            .get()
            .ok_or_else(|| Failure::new("Cannot catch signals", ""))
    }

    /// The exit code that a signal asks for, if one came.
    pub(crate) fn interrupted(&self) -> Option<u8> {
        self.interrupt.get().and_then(Interrupt::code)
    }

    /// The directory of the configuration: this process's, `--chdir` included.
    pub(crate) fn directory(&self) -> PathBuf {
        PathBuf::new()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        data_dir(&self.directory())
    }

    /// The workspace to work on.
    pub(crate) fn workspace(&self) -> Result<String, Failure> {
        let variable = workspace_variable();
        let explicit = self.global.workspace.as_deref();
        Ok(selected_workspace(
            explicit,
            variable.as_deref(),
            &self.data_dir(),
        )?)
    }

    /// The backend block of all sources. Warnings about it are printed.
    pub(crate) fn block(&self) -> Result<BackendBlock, Failure> {
        let block = BackendSources {
            directory: self.directory(),
            data_dir: self.data_dir(),
            backend_config: self.global.backend_config.clone(),
        }
        .load()?;
        for warning in &block.warnings {
            self.output.diagnostic(warning);
        }
        Ok(block)
    }

    fn limits(&self) -> Result<Limits, Failure> {
        let mut limits = Limits::default();
        for text in &self.global.limit {
            limits = limits
                .with(text)
                .map_err(|error| Failure::new("Invalid limit", format!("{error}.")))?;
        }
        Ok(limits)
    }

    /// The sandbox.
    pub(crate) async fn backend(&self) -> Result<Backend, Failure> {
        let source = match &self.global.component {
            Some(path) => ComponentSource::File(path.clone()),
            None => ComponentSource::Embedded,
        };
        let mut builder = Backend::builder().component(source).limits(self.limits()?);
        if let Some(digest) = &self.global.component_sha256 {
            builder = builder.component_sha256(digest);
        }
        builder
            .build()
            .await
            .map_err(|error| Failure::store("Cannot load the component", &error))
    }

    /// What the person allows.
    pub(crate) fn grant(&self) -> Grant {
        Grant::local().allow_credential_process(self.global.allow_credential_process)
    }

    /// The store that the backend block names, opened in the sandbox. Warnings are printed.
    pub(crate) async fn open(&self) -> Result<Store, Failure> {
        let block = self.block()?;
        let output = self.output;
        let fence = if self.global.allow_unfenced {
            Fence::WhenSupported
        } else {
            Fence::Required
        };
        let backend = self.backend().await?;
        let config = Value::Object(block.config);
        let opened = backend
            .store(config.clone())
            .grant(self.grant())
            .fence(fence)
            .on_warning(move |warning| output.diagnostic(&warning))
            .open()
            .await
            .map_err(|error| match error {
                Error::Configuration(_) => Failure::store("", &error),
                error => Failure::store("Cannot open the backend", &error),
            })?;
        for warning in &opened.warnings {
            self.output.diagnostic(warning);
        }
        // A second store of the same session is the same one.
        let _ = self.opened.set((backend, config));
        Ok(opened.store)
    }

    /// Which store it is that was opened.
    pub(crate) async fn site(&self) -> Result<Site, Failure> {
        let (backend, config) = self
            .opened
            .get()
            .ok_or_else(|| Failure::new("No store is open", ""))?;
        Site::of(backend, config)
            .await
            .map_err(|error| Failure::store("Cannot resolve the backend block", &error))
    }
}

/// `TF_WORKSPACE`, unless it is empty.
pub(crate) fn workspace_variable() -> Option<String> {
    std::env::var("TF_WORKSPACE")
        .ok()
        .filter(|name| !name.is_empty())
}
