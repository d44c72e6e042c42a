//! The contract's `surroundings`, answered with no. Composed with a state backend it seals the backend for any host: what is
//! left to ask for is the network.
#![allow(missing_docs, unsafe_code, reason = "generated bindings")]

mod bindings {
    #![allow(unused_qualifications, clippy::all, reason = "generated code")]
    wit_bindgen::generate!({
        inline: "
            package cofferdam:sealed;
            world no-surroundings {
                export cofferdam:state-backend/surroundings@0.1.0;
            }
        ",
        path: "../../wit",
        generate_all,
    });
}

use bindings::exports::cofferdam::state_backend::surroundings::{
    AccessKey, Diagnostic, Guest, Refusal,
};

struct Nothing;

impl Guest for Nothing {
    fn credentials() -> Result<Option<AccessKey>, Refusal> {
        Err(Refusal::Denied)
    }

    fn variable(_name: String) -> Result<Option<String>, Refusal> {
        Err(Refusal::Denied)
    }

    fn read_file(_path: String) -> Result<Vec<u8>, Refusal> {
        Err(Refusal::Denied)
    }

    fn replace_file(_path: String, _bytes: Vec<u8>) -> Result<(), Refusal> {
        Err(Refusal::Denied)
    }

    fn run(_command: String) -> Result<Vec<u8>, Refusal> {
        Err(Refusal::Denied)
    }

    /// There is nobody to tell.
    fn report(_diagnostic: Diagnostic) {}
}

bindings::export!(Nothing with_types_in bindings);
