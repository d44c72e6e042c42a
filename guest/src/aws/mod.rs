//! What every call to AWS needs, whichever service it goes to: a signature, attempts, and an answer that
//! is understood.

pub(crate) mod error;
pub(crate) mod http;
pub(crate) mod pace;
pub(crate) mod retry;
pub(crate) mod sign;
pub(crate) mod xml;
