//! The platform inside a WebAssembly runtime: WASI's clocks, random numbers and HTTP, and the host's surroundings.

mod http;

use std::time::Duration;

use crate::bindings::cofferdam::state_backend::surroundings;
use crate::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use crate::bindings::wasi::random::random;
use crate::config::{Diagnostic, Environment};
use crate::platform::{
    AccessKey, Clock, Credentials, HttpRequest, HttpResponse, Random, Refusal, Surroundings,
    Transport, TransportError,
};
use crate::secret::Secret;

/// What the component imports.
pub(crate) struct Wasi;

impl Clock for Wasi {
    fn now(&self) -> Duration {
        let now = wall_clock::now();
        Duration::from_secs(now.seconds)
            .saturating_add(Duration::from_nanos(now.nanoseconds.into()))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(monotonic_clock::now())
    }

    fn sleep(&self, duration: Duration) {
        monotonic_clock::subscribe_duration(nanoseconds(duration)).block();
    }
}

impl Random for Wasi {
    fn next_u64(&self) -> u64 {
        random::get_random_u64()
    }
}

impl Environment for Wasi {
    fn variable(&self, name: &str) -> Option<String> {
        surroundings::variable(name).ok().flatten()
    }
}

impl Surroundings for Wasi {
    fn credentials(&self) -> Option<Credentials> {
        let key = surroundings::credentials().ok().flatten()?;
        Some(Credentials {
            key: AccessKey {
                id: key.id,
                secret: Secret::new(key.secret),
                session_token: key.session_token.map(Secret::new),
            },
            expires_at: key.expires_at,
            account_id: None,
        })
    }

    fn read_file(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        surroundings::read_file(path).map_err(refusal)
    }

    fn replace_file(&self, path: &str, bytes: &[u8]) -> Result<(), Refusal> {
        surroundings::replace_file(path, bytes).map_err(refusal)
    }

    fn run(&self, command: &str) -> Result<Vec<u8>, Refusal> {
        surroundings::run(command).map_err(refusal)
    }

    fn report(&self, diagnostic: Diagnostic) {
        surroundings::report(&diagnostic.into());
    }
}

impl Transport for Wasi {
    fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        http::send(request)
    }

    fn send_all(&self, requests: &[HttpRequest<'_>]) -> Vec<Result<HttpResponse, TransportError>> {
        http::send_all(requests)
    }
}

fn refusal(refusal: surroundings::Refusal) -> Refusal {
    match refusal {
        surroundings::Refusal::Denied => Refusal::Denied,
        surroundings::Refusal::Failed(reason) => Refusal::Failed(reason),
        surroundings::Refusal::NotFound => Refusal::NotFound,
    }
}

/// As WASI counts durations.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
