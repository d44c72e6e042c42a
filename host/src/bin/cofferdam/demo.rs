//! `demo`: what the sandboxed backend does, told by two programs that share a state on the embedded store.
//!
//! The story is checked while it is told, and the requests that it shows are those that the store received.
//!
//! `--json`: `{"format_version", "component": {"sha256"}, "bucket", "key", "steps": [{"name", "did", "outcome",
//! "requests": [sequence]}], "requests": [{"sequence", "method", "operation", "key", "status", …}]}`.

use std::fmt::Write as _;

use bytes::Bytes;
use cofferdam::dev_store::{DevStore, Request};
use cofferdam::{
    Backend, Error, ErrorCode, Expectation, Grant, LockInfo, Reading, Revision, StateStore, Store,
    UnlockBy, WriteOptions,
};
use serde::Serialize;
use serde_json::json;

use crate::arguments::Format;
use crate::failure::Failure;
use crate::output::{data, json, printable};
use crate::session::Session;

const KEY: &str = "network/terraform.tfstate";
const DEFAULT: &str = "default";

pub(crate) async fn run(session: &Session, options: &Format) -> Result<(), Failure> {
    let server = DevStore::builder()
        .start()
        .await
        .map_err(|error| Failure::new("Cannot start the S3 server", format!("{error}.")))?;
    let backend = session.backend().await?;
    let steps = story(&server, &backend).await?;
    if options.json {
        json(json!({
            "component": { "sha256": backend.sha256() },
            "bucket": server.bucket(),
            "key": KEY,
            "steps": steps,
            "requests": server.requests(),
        }))?;
    } else {
        data(told(&server, &backend, &steps).as_bytes())?;
    }
    server.shutdown().await;
    Ok(())
}

/// One thing that was done, and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// Stable, for programs.
    pub(crate) name: &'static str,
    /// What was done.
    pub(crate) did: &'static str,
    /// What came of it.
    pub(crate) outcome: String,
    /// The requests that the store received for it: their `sequence`.
    pub(crate) requests: Vec<u64>,
}

/// Tells the story. Every step is what it says, or the story ends with an error.
pub(crate) async fn story(server: &DevStore, backend: &Backend) -> Result<Vec<Step>, Failure> {
    let mut story = Story {
        server,
        told: 0,
        steps: Vec::new(),
    };

    let alice = open(server, backend).await?;
    let bob = open(server, backend).await?;
    story.step(
        "open",
        "Alice and Bob open the same state, each in a sandbox of their own.",
        "It takes no request.",
    );

    let info = LockInfo {
        who: "alice@example".to_owned(),
        ..LockInfo::new("OperationTypeApply")
    };
    let lock = alice.lock(DEFAULT, &info).await.map_err(broken)?;
    story.step(
        "lock",
        "Alice takes the lock.",
        format!("She holds it under the ID {}.", info.id),
    );

    let other = LockInfo {
        who: "bob@example".to_owned(),
        ..LockInfo::new("OperationTypeApply")
    };
    let error = refusal(bob.lock(DEFAULT, &other).await, ErrorCode::Locked)?;
    let holder = error
        .store()
        .and_then(|error| error.holders.first())
        .and_then(|holder| holder.info.as_ref())
        .filter(|holder| holder.id == info.id)
        .ok_or_else(|| unexpected("the refusal does not name the holder"))?;
    story.step(
        "second-lock",
        "Bob wants the lock too.",
        format!(
            "Refused: {} holds it, for {}.",
            holder.who, holder.operation
        ),
    );

    let first = state(1);
    let absent = write(Expectation::Absent, Some(&lock));
    let old = alice
        .write(DEFAULT, first.clone(), &absent)
        .await
        .map_err(broken)?;
    story.step(
        "first-write",
        "Alice stores the first state, serial 1.",
        stored(&old),
    );

    let seen = match bob.read(DEFAULT, None).await.map_err(broken)? {
        Reading::State(state) if state.bytes == first => state.revision,
        _ => return Err(unexpected("what was read is not what was stored")),
    };
    story.step(
        "read",
        "Bob reads it.",
        format!("{} bytes, the same to the last one.", first.len()),
    );

    let expected = write(Expectation::Revision(old), Some(&lock));
    let new = alice
        .write(DEFAULT, state(2), &expected)
        .await
        .map_err(broken)?;
    story.step("second-write", "Alice stores serial 2.", stored(&new));

    let stale = write(Expectation::Revision(seen), None);
    refusal(
        bob.write(DEFAULT, state(2), &stale).await,
        ErrorCode::StateChanged,
    )?;
    match bob.read(DEFAULT, None).await.map_err(broken)? {
        Reading::State(state) if state.revision == new => {}
        _ => return Err(unexpected("the refused write changed the state")),
    }
    story.step(
        "stale-write",
        "Bob, without any lock, writes over what he read before.",
        "Refused: the state changed in between. Alice's serial 2 still stands.",
    );

    alice
        .unlock(DEFAULT, &UnlockBy::Held(lock))
        .await
        .map_err(broken)?;
    story.step("unlock", "Alice releases the lock.", "Nobody holds it.");

    let lock = bob.lock("staging", &other).await.map_err(broken)?;
    let absent = write(Expectation::Absent, Some(&lock));
    bob.write("staging", state(1), &absent)
        .await
        .map_err(broken)?;
    bob.unlock("staging", &UnlockBy::Held(lock))
        .await
        .map_err(broken)?;
    story.step(
        "workspace",
        "Bob makes a workspace, `staging`.",
        "Lock, write, unlock: three requests.",
    );

    let workspaces = alice.workspaces().await.map_err(broken)?;
    if workspaces != [DEFAULT, "staging"] {
        return Err(unexpected("the workspaces are not those that were made"));
    }
    story.step(
        "list",
        "Alice lists the workspaces.",
        format!("{}.", workspaces.join(", ")),
    );
    Ok(story.steps)
}

struct Story<'a> {
    server: &'a DevStore,
    /// How many requests belong to the steps so far.
    told: usize,
    steps: Vec<Step>,
}

impl Story<'_> {
    fn step(&mut self, name: &'static str, did: &'static str, outcome: impl Into<String>) {
        let requests = self.server.requests();
        let sequences = requests
            .iter()
            .skip(self.told)
            .map(|request| request.sequence);
        self.steps.push(Step {
            name,
            did,
            outcome: outcome.into(),
            requests: sequences.collect(),
        });
        self.told = requests.len();
    }
}

async fn open(server: &DevStore, backend: &Backend) -> Result<Store, Failure> {
    let opened = backend
        .store(server.backend_block(KEY))
        .grant(Grant::local())
        .open()
        .await;
    Ok(opened.map_err(broken)?.store)
}

fn write(expect: Expectation, lock: Option<&cofferdam::HeldLock>) -> WriteOptions {
    WriteOptions {
        expect,
        lock: lock.cloned(),
    }
}

/// The error that must come.
fn refusal<T>(answer: Result<T, Error>, code: ErrorCode) -> Result<Error, Failure> {
    match answer {
        Err(error) if error.code() == Some(code) => Ok(error),
        Err(error) => Err(broken(error)),
        Ok(_) => Err(unexpected("what must be refused was done")),
    }
}

fn stored(revision: &Revision) -> String {
    format!("Stored; its revision is {}.", revision.tag)
}

fn broken(error: Error) -> Failure {
    Failure::store("The demonstration failed", &error)
}

fn unexpected(what: &str) -> Failure {
    Failure::new(
        "The demonstration failed",
        format!("This is a defect: {what}."),
    )
}

/// A state as Terraform writes it, with one resource of its built-in provider.
fn state(serial: u64) -> Bytes {
    let id = "9a0f1c52-6d0b-4f5e-8f0e-3a1d5b8c7e21";
    let state = json!({
        "version": 4,
        "terraform_version": "1.11.4",
        "serial": serial,
        "lineage": "5f0c4c4e-2f0a-4e0e-9a51-0d6f6f6c1b7a",
        "outputs": { "revision": { "value": serial, "type": "number" } },
        "resources": [{
            "mode": "managed",
            "type": "terraform_data",
            "name": "network",
            "provider": "provider[\"terraform.io/builtin/terraform\"]",
            "instances": [{
                "schema_version": 0,
                "attributes": {
                    "id": id,
                    "input": { "value": serial, "type": "number" },
                    "output": { "value": serial, "type": "number" },
                    "triggers_replace": null,
                },
                "sensitive_attributes": [],
            }],
        }],
        "check_results": null,
    });
    Bytes::from(format!("{state:#}\n"))
}

fn told(server: &DevStore, backend: &Backend, steps: &[Step]) -> String {
    let requests = server.requests();
    let mut text = format!(
        "An S3 server of this process at {}, and the backend in its sandbox\n(component sha256:{}).\n",
        server.url(),
        backend.sha256(),
    );
    for (number, step) in (1..).zip(steps) {
        // A String takes all that is written to it.
        let _ = write!(
            text,
            "\n{number}. {}\n   {}\n",
            step.did,
            printable(&step.outcome)
        );
        for request in requests
            .iter()
            .filter(|request| step.requests.contains(&request.sequence))
        {
            let _ = writeln!(text, "     {}", line(request));
        }
    }
    let _ = writeln!(
        text,
        "\nAll of it as it should be, in {} requests to the store.",
        requests.len()
    );
    text
}

/// A request as the store logged it.
fn line(request: &Request) -> String {
    let object = if request.key.is_empty() {
        "(listing)"
    } else {
        &request.key
    };
    let mut line = format!("{:6} {}", request.method, printable(object));
    for (header, value) in [
        ("If-Match", &request.if_match),
        ("If-None-Match", &request.if_none_match),
    ] {
        if let Some(value) = value {
            line += &format!("  {header}: {}", printable(value));
        }
    }
    format!("{line}  -> {}", request.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn log_of_the_story() -> (DevStore, Vec<Step>) {
        let server = DevStore::builder().start().await.unwrap();
        let backend = Backend::builder().build().await.unwrap();
        let steps = story(&server, &backend).await.unwrap();
        (server, steps)
    }

    /// Method, object, condition and status of every request of a step.
    fn requests(
        server: &DevStore,
        steps: &[Step],
        name: &str,
    ) -> Vec<(String, String, &'static str, u16)> {
        let step = steps.iter().find(|step| step.name == name).unwrap();
        server
            .requests()
            .into_iter()
            .filter(|request| step.requests.contains(&request.sequence))
            .map(|request| {
                let condition = match (&request.if_match, request.if_none_match.as_deref()) {
                    (Some(_), None) => "if-match",
                    (None, Some("*")) => "if-none-match",
                    (None, None) => "",
                    _ => "other",
                };
                (request.method, request.key, condition, request.status)
            })
            .collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_story_is_what_the_stores_own_log_says() {
        let (server, steps) = log_of_the_story().await;
        let lock = format!("{KEY}.tflock");
        let staging = format!("env:/staging/{KEY}");
        let of = |name: &str| requests(&server, &steps, name);
        let one = |method: &str, key: &str, condition, status| {
            vec![(method.to_owned(), key.to_owned(), condition, status)]
        };
        assert_eq!(of("open"), []);
        assert_eq!(of("lock"), one("PUT", &lock, "if-none-match", 200));
        let second = of("second-lock");
        assert_eq!(second[0], one("PUT", &lock, "if-none-match", 412)[0]);
        assert_eq!(second[1], one("GET", &lock, "", 200)[0]);
        assert_eq!(second.len(), 2);
        assert_eq!(of("first-write"), one("PUT", KEY, "if-none-match", 200));
        assert_eq!(of("read"), one("GET", KEY, "", 200));
        assert_eq!(of("second-write"), one("PUT", KEY, "if-match", 200));
        assert_eq!(of("stale-write")[0], one("PUT", KEY, "if-match", 412)[0]);
        assert!(
            of("stale-write")[1..]
                .iter()
                .all(|request| request.0 == "GET")
        );
        assert_eq!(of("unlock"), one("DELETE", &lock, "if-match", 204));
        assert_eq!(
            of("workspace")[1],
            one("PUT", &staging, "if-none-match", 200)[0]
        );
        assert_eq!(of("workspace").len(), 3);
        assert!(
            of("list")
                .iter()
                .all(|request| request.0 == "GET" && request.3 == 200)
        );

        // No request is left out of the story, and none is told twice.
        let told: Vec<u64> = steps
            .iter()
            .flat_map(|step| step.requests.clone())
            .collect();
        let logged: Vec<u64> = server
            .requests()
            .iter()
            .map(|request| request.sequence)
            .collect();
        assert_eq!(told, logged);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_store_held_two_generations_of_the_state_and_one_lock() {
        let (server, _) = log_of_the_story().await;
        let bodies: Vec<_> = server
            .history(KEY)
            .into_iter()
            .map(|generation| generation.body)
            .collect();
        assert_eq!(bodies, [Some(state(1)), Some(state(2))]);
        let lock = server.history(&format!("{KEY}.tflock"));
        assert_eq!(lock.len(), 2, "{lock:?}");
        assert!(lock[0].body.is_some() && lock[1].body.is_none(), "{lock:?}");
        assert_eq!(
            server.keys(),
            [format!("env:/staging/{KEY}"), KEY.to_owned()]
        );
    }
}
