//! The writers that go through a gateway: `cofferdam serve`, which two of them share, and `cofferdam exec`.
//!
//! They speak Terraform's `http` protocol, whose client knows no revision and no token: what keeps its writes apart from
//! those of others is the gateway's doing, and dies with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use cofferdam_tests::{HttpBackend, tools};
use fastrand::Rng;
use http::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;

use crate::ground::{Ground, STATES};
use crate::judge::Told;
use crate::writers::{following, rng};

/// Tells the command that `exec` runs under which name it writes.
const NAME: &str = "COFFERDAM_CHAOS_WRITER";

/// How far a round is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    /// The lock is its own.
    Took,
    /// The state is stored.
    Wrote,
    /// It is about to release the lock.
    Gives,
    /// The lock is released.
    Released,
}

/// Why a round did not come to its end, with what was answered.
struct Stop {
    at: &'static str,
    /// None: no answer came.
    status: Option<StatusCode>,
    text: String,
}

/// Lock, read, write, unlock, as Terraform does it.
async fn round(client: &HttpBackend, name: &str, mut tell: impl FnMut(Step)) -> Result<(), Stop> {
    let expect = |at, answered: Option<(StatusCode, bytes::Bytes)>| match answered {
        Some((StatusCode::OK, body)) => Ok(body),
        Some((status, text)) => Err(Stop {
            at,
            status: Some(status),
            text: String::from_utf8_lossy(&text).into_owned(),
        }),
        None => Err(Stop {
            at,
            status: None,
            text: String::new(),
        }),
    };
    let record = HttpBackend::record(name, &format!("{name}@chaos"));
    expect("LOCK", client.lock(&record).await)?;
    tell(Step::Took);
    let wrote = async {
        let stored = match client.read().await {
            Some((StatusCode::NOT_FOUND, _)) => None,
            answered => Some(expect("GET", answered)?),
        };
        let state = following(stored.as_deref(), name);
        expect("POST", client.write(state, name).await)
    }
    .await;
    if wrote.is_ok() {
        tell(Step::Wrote);
    }
    tell(Step::Gives);
    expect("UNLOCK", client.unlock(&record).await)?;
    tell(Step::Released);
    wrote.map(drop)
}

/// The gateways that are processes of their own, one for each key.
pub struct Gateways {
    ground: Arc<Ground>,
    running: Mutex<BTreeMap<&'static str, Served>>,
    cache: TempDir,
}

struct Served {
    child: Child,
    /// Of the default workspace.
    address: String,
    password: String,
    directory: TempDir,
}

impl Gateways {
    pub fn new(ground: Arc<Ground>) -> Self {
        Self {
            ground,
            running: Mutex::default(),
            cache: tempfile::tempdir().expect("a directory"),
        }
    }

    /// A client of the gateway to a state; `None` if it could not start on this ground.
    async fn client(&self, state: usize) -> Option<HttpBackend> {
        let (key, workspace) = (STATES[state].key, STATES[state].workspace);
        let mut running = self.running.lock().await;
        if !running.contains_key(key) {
            running.insert(key, self.start(state).await?);
        }
        let served = &running[key];
        let base = served.address.strip_suffix("default").expect("an address");
        let address = format!("{base}{workspace}");
        Some(HttpBackend::new(address, Some(&served.password)))
    }

    async fn start(&self, state: usize) -> Option<Served> {
        let directory = self.ground.workplace(state);
        let log = File::create(directory.path().join("log")).expect("a log");
        let mut child = tools::cofferdam_in(directory.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--json"])
            .env_clear()
            .env("XDG_CACHE_HOME", self.cache.path())
            .stderr(log)
            .spawn()
            .expect("the command starts");
        let stdout = child.stdout.take().expect("a pipe");
        let line = BufReader::new(stdout).lines().next_line().await;
        let Some(line) = line.expect("a line") else {
            child.wait().await.expect("it ends");
            self.look_at(&directory);
            self.ground.count("error: serve: does not start");
            return None;
        };
        let told: Value = serde_json::from_str(&line).expect("settings");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        Some(Served {
            child,
            address: text(&told["backend"]["http"]["address"]),
            password: text(&told["password"]),
            directory,
        })
    }

    async fn kill(&self, state: usize) {
        if let Some(mut served) = self.running.lock().await.remove(STATES[state].key) {
            served.child.kill().await.expect("it is killed");
            self.look_at(&served.directory);
        }
    }

    /// Ends all of them.
    pub async fn close(&self) {
        for state in 0..STATES.len() {
            self.kill(state).await;
        }
    }

    fn look_at(&self, directory: &TempDir) {
        let log = std::fs::read(directory.path().join("log")).expect("a log");
        self.ground.look_at_output(&String::from_utf8_lossy(&log));
    }
}

/// A writer through a gateway that it shares with others.
pub struct Client {
    ground: Arc<Ground>,
    gateways: Arc<Gateways>,
    number: usize,
    rng: Rng,
    death: Receiver<()>,
}

impl Client {
    pub fn new(ground: Arc<Ground>, gateways: Arc<Gateways>, number: usize, seed: u64) -> Self {
        Self {
            death: ground.death_of(number),
            ground,
            gateways,
            number,
            rng: rng(seed, number),
        }
    }

    pub async fn work(mut self, end: Instant) {
        let mut number = 0;
        while Instant::now() < end {
            number += 1;
            let name = format!("client-{}-{number}", self.number);
            let state = self.rng.usize(..STATES.len());
            let Some(client) = self.gateways.client(state).await else {
                continue;
            };
            let ground = &self.ground;
            let tell = |step| match step {
                Step::Took => ground.tell(Told::Took {
                    state,
                    holder: name.clone(),
                }),
                Step::Wrote => ground.tell(wrote(state, &name)),
                Step::Gives => ground.tell(Told::Gives {
                    state,
                    holder: name.clone(),
                }),
                Step::Released => {}
            };
            tokio::select! {
                // It dies together with the gateway, which others are just using.
                Some(()) = self.death.recv() => {
                    ground.count("kills: serve");
                    self.gateways.kill(state).await;
                    ground.dies(state, &name);
                }
                ended = round(&client, &name, tell) => {
                    ground.count("rounds: through serve");
                    if let Err(stop) = ended {
                        ground.dies(state, &name);
                        ground.look_for_secrets(&stop.text);
                        stopped(ground, "serve", stop.at, stop.status);
                        if stop.status == Some(StatusCode::LOCKED) {
                            ground.bury_in(state).await;
                        }
                    }
                }
            }
        }
    }
}

fn wrote(state: usize, name: &str) -> Told {
    Told::Wrote {
        state,
        write: name.to_owned(),
        under: Some(name.to_owned()),
    }
}

fn stopped(ground: &Ground, through: &str, at: &str, status: Option<StatusCode>) {
    let answer = status.map_or_else(|| "no answer".to_owned(), |it| it.as_u16().to_string());
    ground.count(format!("error: {through}: {at}: {answer}"));
}

/// A writer whose rounds are commands under `cofferdam exec`.
pub struct Exec {
    ground: Arc<Ground>,
    number: usize,
    rng: Rng,
    directories: Vec<TempDir>,
    cache: TempDir,
    death: Receiver<()>,
}

impl Exec {
    pub fn new(ground: Arc<Ground>, number: usize, seed: u64) -> Self {
        Self {
            death: ground.death_of(number),
            directories: (0..STATES.len()).map(|it| ground.workplace(it)).collect(),
            ground,
            number,
            rng: rng(seed, number),
            cache: tempfile::tempdir().expect("a directory"),
        }
    }

    pub async fn work(mut self, end: Instant) {
        let mut number = 0;
        while Instant::now() < end {
            number += 1;
            let name = format!("exec-{}-{number}", self.number);
            let state = self.rng.usize(..STATES.len());
            self.round(state, &name).await;
        }
    }

    async fn round(&mut self, state: usize, name: &str) {
        let mut exec = self.start(self.directories[state].path(), state, name);
        tokio::select! {
            // The command under it outlives its gateway.
            Some(()) = self.death.recv() => {
                self.ground.count("kills: exec");
                exec.start_kill().expect("it is killed");
            }
            _ = exec.wait() => {}
        }
        // Which comes when the command, too, has closed its end.
        let output = exec.wait_with_output().await.expect("it ends");
        self.ground.dies(state, name);
        self.ground.count("rounds: through exec");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        self.ground.look_at_output(&said);
        self.ground
            .look_at_output(&String::from_utf8_lossy(&output.stderr));
        if said.contains(&told(Step::Wrote)) {
            self.ground.tell(wrote(state, name));
        }
        if let Some((_, rest)) = said.split_once("chaos stops at ") {
            let line = rest.lines().next().unwrap_or_default();
            self.ground.count(format!("error: exec: {line}"));
            if line == "LOCK: 423" {
                self.ground.bury_in(state).await;
            }
        } else if !said.contains(&told(Step::Released)) {
            self.ground.count("error: exec: killed, or does not start");
        }
        match output.status.code() {
            Some(0 | 1) | None => {}
            Some(code) => self.ground.suspect(format!("exec: exit code {code}")),
        }
    }

    fn start(&self, directory: &Path, state: usize, name: &str) -> Child {
        tools::cofferdam_in(directory)
            .args(["exec", "--workspace", STATES[state].workspace, "--"])
            .arg(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "--nocapture"])
            .arg("gateways::child_that_writes_one_round_under_exec")
            .env_clear()
            .env(NAME, name)
            .env("XDG_CACHE_HOME", self.cache.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("the command starts")
    }
}

/// What the command under `exec` says on its output.
fn told(step: Step) -> String {
    format!("chaos: {step:?}")
}

/// No test, but the command that [`Exec`] runs.
#[test]
#[ignore = "it is run by the writers under `cofferdam exec`"]
fn child_that_writes_one_round_under_exec() {
    let (Some(client), Ok(name)) = (HttpBackend::from_environment(), std::env::var(NAME)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let ended = runtime.block_on(round(&client, &name, |step| println!("{}", told(step))));
    if let Err(stop) = ended {
        let answer = stop.status.map_or(0, |status| status.as_u16());
        println!("{}\nchaos stops at {}: {answer}", stop.text, stop.at);
    }
}
