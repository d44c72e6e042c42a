//! Secrets that the tests work with, and the search for them in all that the tests print.
//!
//! Without this crate "no secret is ever printed" would be shown at the few places that somebody thought of. Here the
//! whole test run writes what it logs, at the level `trace` and from all libraries, into a folder, and afterwards the
//! program `canaries` looks there for every secret, in every form in which one could slip out.
//!
//! - With `COFFERDAM_TEST_TRACE=FOLDER` each test process writes to a file of its own there, from before `main` on: it is
//!   enough that a test links this crate. Commands of cofferdam that tests start are told by `COFFERDAM_LOG` and
//!   `COFFERDAM_LOG_PATH`, which they inherit.
//! - Secrets that tests choose are the constants below. Those that are made at random are watched ([`watch`]).
//! - What tests capture, such as a command's output, is added with [`record`].
//! - A search that found nothing proves nothing if it looked at the wrong place. So on every way to the folder
//!   ([`Route`]) something is planted that must be found in all forms ([`planted`]).

mod forms;
mod search;
mod trace;

pub use forms::{FORMS, encoded};
pub use search::{Finding, Patterns, Searched};
pub use trace::{folder, record, variables, watch};

/// A secret access key.
pub const SECRET_ACCESS_KEY: &str = "cofferdam+canary/secret-access-key+40chr";

/// A session token.
pub const SESSION_TOKEN: &str = "cofferdam+canary/session-token+Z9x8==";

/// The 32 bytes of a customer's own key (SSE-C). Its digest, which goes with every request, is not looked for: a store
/// tells it everybody who may read the object, and nothing leads back from it.
pub const CUSTOMER_KEY: &str = "cofferdam+canary/customer-key+32";

/// [`CUSTOMER_KEY`] as the backend block takes it: base64.
pub const CUSTOMER_KEY_BASE64: &str = "Y29mZmVyZGFtK2NhbmFyeS9jdXN0b21lci1rZXkrMzI=";

/// A proxy's password, as a URL carries it.
pub const PROXY_PASSWORD: &str = "cofferdam-canary-proxy-password-4b1d";

/// What stands in a state: a resource's secret.
pub const STATE: &str = "cofferdam+canary/state+5e7a";

/// A token of a web identity, of SSO, of a container's agent, or of a gateway.
pub const TOKEN: &str = "cofferdam-canary-token-0a6e.c3b2";

/// Every secret that tests choose, with its name. Those of the guest's own tests stand there, beside what they test.
pub const CANARIES: &[(&str, &[u8])] = &[
    ("secret access key", SECRET_ACCESS_KEY.as_bytes()),
    ("session token", SESSION_TOKEN.as_bytes()),
    ("customer key", CUSTOMER_KEY.as_bytes()),
    ("proxy password", PROXY_PASSWORD.as_bytes()),
    ("state", STATE.as_bytes()),
    ("token", TOKEN.as_bytes()),
    ("the guest's tests: a secret key", b"CANARY-SECRET"),
    ("the guest's tests: a session token", b"CANARY-TOKEN"),
    (
        "the guest's tests: a key that a program lends",
        b"CANARY-LENT",
    ),
];

/// A way on which something can come into the folder.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Route {
    /// A command of cofferdam that a test started, through the file that `COFFERDAM_LOG_PATH` names.
    Command,
    /// A library that logs with the crate `log`.
    Log,
    /// What a test captured.
    Recorded,
    /// What the tests print, through the file that the caller of `cargo test` keeps of it.
    Runner,
    /// A library that logs with the crate `tracing`; cofferdam does.
    Tracing,
}

impl Route {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Command,
        Self::Log,
        Self::Recorded,
        Self::Runner,
        Self::Tracing,
    ];

    /// What is planted on it. Not a secret, and never found anywhere else.
    pub fn control(self) -> String {
        format!("planted+control/on-the-route+{self:?}").to_lowercase()
    }
}

/// What is to be sent on a route: its control in all forms, in the middle of other text, on one line.
pub fn planted(route: Route) -> String {
    encoded(route.control().as_bytes()).join(" ")
}
