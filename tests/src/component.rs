//! The backend as people run it: the component in its sandbox.

use std::sync::Arc;

use async_trait::async_trait;
use cofferdam::{Backend, ComponentSource, Error, Grant, Limits, StateStore};

use crate::conformance::{Flavour, Opening};

/// Opens stores in the sandbox.
pub struct Component {
    backend: Backend,
}

impl Component {
    /// Loads the component that `COFFERDAM_COMPONENT` names, else the one that the library carries.
    ///
    /// # Panics
    /// If it cannot be loaded.
    pub async fn load() -> Self {
        let source = std::env::var_os("COFFERDAM_COMPONENT")
            .map_or(ComponentSource::Embedded, |path| {
                ComponentSource::File(path.into())
            });
        let backend = Backend::builder()
            .component(source)
            .build()
            .await
            .expect("the component loads");
        Self { backend }
    }
}

#[async_trait]
impl Flavour for Component {
    fn name(&self) -> &'static str {
        "component"
    }

    async fn open(&self, opening: Opening) -> Result<Arc<dyn StateStore>, Error> {
        let warnings = opening.warnings;
        let opened = self
            .backend
            .store(opening.block)
            .grant(Grant::local())
            .fence(opening.fence)
            .limits(Limits::default().state(opening.max_state))
            .on_warning(move |warning| warnings.push(warning))
            .open()
            .await?;
        Ok(Arc::new(opened.store))
    }

    fn pass_time(&self, _seconds: u64) {
        panic!("the clock of the sandbox cannot be moved");
    }
}
