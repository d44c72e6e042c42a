//! The doors to the outside: clock, random numbers, HTTP, and what the host offers.
//!
//! Without these traits the retry, lock and fence logic could only run inside a WebAssembly runtime, with
//! real sleeps and a real store, and the rare interleavings that lose states would never be tested.

use std::time::Duration;

use crate::config::{Diagnostic, Environment};
use crate::secret::Secret;

/// Everything that a store needs from its surroundings. Whoever has the parts has the whole.
pub trait Platform: Clock + Random + Surroundings + Transport {}

impl<P: Clock + Random + Surroundings + Transport> Platform for P {}

/// Time, as read and as spent.
pub trait Clock {
    /// Wall clock: time since 1970, UTC. May jump.
    fn now(&self) -> Duration;

    /// Monotonic clock: time since some fixed moment. Never runs backwards.
    fn monotonic(&self) -> Duration;

    /// Waits.
    fn sleep(&self, duration: Duration);
}

/// Random numbers, for the jitter of retries; nothing secret is made of them.
pub trait Random {
    /// A number, uniform over all of its values.
    fn next_u64(&self) -> u64;
}

/// What the host offers besides the network; it may refuse each, and refuses by default what it does not implement.
pub trait Surroundings: Environment {
    /// Credentials that the host lends. `None`: the host has none, or refuses.
    fn credentials(&self) -> Option<Credentials>;

    /// A file of the user's, whole: shared config, tokens.
    ///
    /// # Errors
    /// Why the host does not answer.
    fn read_file(&self, _path: &str) -> Result<Vec<u8>, Refusal> {
        Err(Refusal::Denied)
    }

    /// Replaces a file, whole or not at all.
    ///
    /// # Errors
    /// Why the host does not do it.
    fn replace_file(&self, _path: &str, _bytes: &[u8]) -> Result<(), Refusal> {
        Err(Refusal::Denied)
    }

    /// Runs a command and answers with what it prints; that may be a secret.
    ///
    /// # Errors
    /// Why the host does not run it, or how it failed.
    fn run(&self, _command: &str) -> Result<Vec<u8>, Refusal> {
        Err(Refusal::Denied)
    }

    /// Hands a warning that arises while working to the person.
    fn report(&self, diagnostic: Diagnostic);
}

/// Sends HTTP requests.
pub trait Transport {
    /// Sends one request, once, and answers with the head of the response. No redirect is followed, no header
    /// added except `Host` (the authority, as it stands). The body of the request is sent with exactly the
    /// `content-length` that the headers name; a request without a body has no such header and sends none.
    ///
    /// An early response (an error while the body is still going out) is a response.
    ///
    /// # Errors
    /// Says, above all, whether the request can have reached the store.
    fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError>;

    /// Sends several requests with small bodies, as far as possible at the same time, and answers in their order.
    fn send_all(&self, requests: &[HttpRequest<'_>]) -> Vec<Result<HttpResponse, TransportError>> {
        requests.iter().map(|request| self.send(request)).collect()
    }
}

/// Credentials for signing.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// The access key id.
    pub id: String,
    /// The secret access key.
    pub secret: Secret,
    /// The session token of temporary credentials.
    pub session_token: Option<Secret>,
}

/// Credentials, and for how long they are good.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// What requests are signed with.
    pub key: AccessKey,
    /// Seconds since 1970. None: they do not expire.
    pub expires_at: Option<u64>,
    /// The account that they belong to, where their source says so.
    pub account_id: Option<String>,
}

/// Why the host does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The grant of this store does not allow it.
    Denied,
    /// It went wrong; the reason holds no secret.
    Failed(String),
    /// There is no such thing.
    NotFound,
}

/// A request, ready to be sent: signed, its path and query percent-encoded.
pub struct HttpRequest<'a> {
    /// What the request line begins with.
    pub method: Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host and, unless it is the scheme's default, port.
    pub authority: &'a str,
    /// Path, and query where there is one; starts with `/`.
    pub path_and_query: &'a str,
    /// Names in lower case. Holds the signature: never to be logged.
    pub headers: &'a [(String, String)],
    /// The body. `None`: there is none.
    pub body: Option<&'a [u8]>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// The methods that this backend uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Removes an object.
    Delete,
    /// Reads an object or a listing.
    Get,
    /// Asks a service other than S3 for whatever its body says.
    Post,
    /// Stores an object.
    Put,
}

impl Method {
    /// As it stands in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Delete => "DELETE",
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
        }
    }
}

/// How long a transport waits before it gives up with [`TransportError::TimedOut`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the head of the response, sending the body included.
    pub first_byte: Duration,
    /// For each part of the response's body.
    pub between_bytes: Duration,
    /// For all of it, the response's body included.
    pub total: Option<Duration>,
}

/// The head of a response, and its body to be read.
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; dropping it early gives up the connection.
    pub body: Box<dyn HttpBody>,
}

impl HttpResponse {
    /// The first header of that name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(value)
    }
}

/// The body of a response.
pub trait HttpBody {
    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The connection broke or a time ran out. A body that ends early may also just end; the caller compares with
    /// `content-length`.
    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError>;
}

/// Why there is no response. The texts hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The connection broke, or what came was not HTTP. The store may have received the request.
    Broken(String),
    /// The host's policy refuses this request. Nothing was sent, and nothing ever will be.
    Denied(String),
    /// No connection came about: nothing was sent. Trying again may help.
    NotConnected(String),
    /// A time ran out. The store may have received the request.
    TimedOut(String),
    /// No connection can come about, as the name or the certificate is wrong: nothing was sent.
    Unusable(String),
}
