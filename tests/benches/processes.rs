//! Whole processes: `cofferdam state pull` beside `terraform state pull`, wall time and peak memory; and `terraform apply`
//! with a change through the gateway, one that runs (`cofferdam serve`) and one of its own (`cofferdam exec`), beside
//! Terraform's own backend.
//!
//! `cargo build --release && cargo bench --bench processes`. It prints a table with the ratios and the
//! targets, and never fails on either: a busy machine is no defect. Every process that pulls finds an empty home
//! directory, so that nothing which an earlier one could have cached helps it. Both programs are copied first, as an
//! installation copies them: the system takes longer to map what a linker has just written.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cofferdam::dev_store::DevStore;
use cofferdam_tests::{Site, Terraform, tools};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::runtime::Runtime;
use wait4::Wait4 as _;

/// First argument of the process that measures another, see [`measure`].
const MEASURE: &str = "measure-one-process";
const KEY: &str = "app/terraform.tfstate";
/// Where a gateway finds what store it is for.
const SETTINGS: &str = "store.tfbackend.json";
/// The name of each size, its bytes, and how often it is measured.
const SIZES: [(&str, usize, usize); 2] = [("1 KB", 1_000, 31), ("50 MB", 50_000_000, 5)];
/// At most this part of Terraform's time and of its memory.
const TARGETS: (f64, f64) = (1.0 / 10.0, 1.0 / 3.0);
/// How often an apply is measured, and at most this part of the time with Terraform's own backend.
const APPLIES: usize = 15;
const APPLY_TARGET: f64 = 1.0;

fn main() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == MEASURE) {
        measure(arguments);
    } else if env::args().any(|argument| argument == "--bench") {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(compare_pulls());
        runtime.block_on(compare_applies());
    }
}

async fn compare_pulls() {
    let Some(terraform) = Terraform::installed() else {
        return;
    };
    let server = DevStore::builder()
        .recording(false)
        .start()
        .await
        .expect("the embedded store starts");
    let terraform = terraform.with_backend("s3", &Site::of(&server).block(KEY));
    terraform.ok(&["init", "-no-color"]).await;
    let folder = tempfile::tempdir().expect("a directory");
    let cofferdam = installed(tools::cofferdam().as_os_str(), folder.path());
    let incumbent = terraform.command(&[]);
    let incumbent = installed(incumbent.as_std().get_program(), folder.path());

    println!(
        "{:8} {:10} {:>12} {:>12}",
        "state", "program", "wall", "peak memory"
    );
    for (size, bytes, runs) in SIZES {
        server
            .put_object(KEY, state_of(bytes))
            .expect("the object is stored");
        let mut ours = Vec::with_capacity(runs);
        let mut theirs = Vec::with_capacity(runs);
        for _ in 0..runs {
            ours.push(run(&terraform, &cofferdam).await);
            theirs.push(run(&terraform, &incumbent).await);
        }
        let (ours, theirs) = (median(&ours), median(&theirs));
        for (program, cost) in [("cofferdam", ours), ("terraform", theirs)] {
            let wall = format!("{:.1} ms", cost.wall.as_secs_f64() * 1e3);
            let memory = format!("{:.1} MB", cost.peak as f64 / 1e6);
            println!("{size:8} {program:10} {wall:>12} {memory:>12}");
        }
        let wall = ours.wall.as_secs_f64() / theirs.wall.as_secs_f64();
        let memory = ours.peak as f64 / theirs.peak as f64;
        for (what, ratio, target) in [("wall", wall, TARGETS.0), ("memory", memory, TARGETS.1)] {
            let verdict = if ratio <= target { "met" } else { "MISSED" };
            println!("{size:8} {what:10} ratio {ratio:.3}, target {target:.3}: {verdict}");
        }
    }
}

async fn compare_applies() {
    let installed = Terraform::installed;
    let (Some(own), Some(served), Some(under_exec)) = (installed(), installed(), installed())
    else {
        return;
    };
    let server = DevStore::builder().recording(false).start().await;
    let server = server.expect("the embedded store starts");
    let site = Site::of(&server);
    let own = own.with_backend("s3", &site.block("own.tfstate"));
    served.write(SETTINGS, &site.block("served.tfstate").to_string());
    let (_gateway, served) = served_by_gateway(served).await;
    under_exec.write(SETTINGS, &site.block("exec.tfstate").to_string());
    let settings = under_exec.directory().join(SETTINGS);
    let under_exec = under_exec.under_exec(&settings, &[]);

    let ways = [own, served, under_exec];
    for terraform in &ways {
        terraform.ok(&["init", "-no-color"]).await;
        terraform.apply("first").await;
    }
    let mut walls = ways.each_ref().map(|_| Vec::with_capacity(APPLIES));
    for run in 0..APPLIES {
        // Each in turn, and each as often first as last.
        for turn in 0..ways.len() {
            let way = (run + turn) % ways.len();
            let start = Instant::now();
            ways[way].apply(&format!("change {run}")).await;
            walls[way].push(start.elapsed());
        }
    }
    let [own, served, under_exec] = walls.map(|mut walls| {
        walls.sort();
        walls[APPLIES / 2].as_secs_f64() * 1e3
    });
    println!("apply    terraform  {own:>9.1} ms with its own s3 backend");
    for (way, wall) in [
        ("through a running gateway", served),
        ("through cofferdam exec", under_exec),
    ] {
        let ratio = wall / own;
        let verdict = if ratio <= APPLY_TARGET {
            "met"
        } else {
            "MISSED"
        };
        println!(
            "apply    terraform  {wall:>9.1} ms {way}: ratio {ratio:.3}, target {APPLY_TARGET:.3}: {verdict}"
        );
    }
}

/// Starts `cofferdam serve` in Terraform's directory, for the settings there, and has Terraform use it as it says. It ends
/// when it is dropped.
async fn served_by_gateway(terraform: Terraform) -> (Child, Terraform) {
    let mut gateway = tokio::process::Command::new(tools::cofferdam())
        .args(["serve", "--json", "--listen=127.0.0.1:0"])
        .args(["--backend-config", SETTINGS])
        .current_dir(terraform.directory())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the gateway starts");
    let mut said = String::new();
    BufReader::new(gateway.stdout.take().expect("a pipe"))
        .read_line(&mut said)
        .await
        .expect("the gateway says how it is used");
    let said: Value = serde_json::from_str(&said).expect("settings");
    let terraform = terraform
        .with_backend("http", &said["backend"]["http"])
        .with_variable(
            "TF_HTTP_PASSWORD",
            said["password"].as_str().expect("a token"),
        );
    (gateway, terraform)
}

/// What one process cost.
#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    /// Bytes.
    peak: u64,
}

/// A copy of a program in this folder.
fn installed(program: &OsStr, folder: &Path) -> PathBuf {
    let program = Path::new(program);
    let copy = folder.join(program.file_name().expect("a name"));
    std::fs::copy(program, &copy).expect("the program is copied");
    copy
}

/// Runs a program's `state pull` in Terraform's directory.
async fn run(terraform: &Terraform, program: &Path) -> Cost {
    let home = tempfile::tempdir().expect("a directory");
    let mut real = terraform.command(&["state", "pull"]);
    let real = real.env("HOME", home.path()).as_std();
    let mut command = Command::new(env::current_exe().expect("the path of this program"));
    command
        .arg(MEASURE)
        .arg(program)
        .args(real.get_args())
        .current_dir(terraform.directory())
        .stdin(Stdio::null());
    for (name, value) in real.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    // The embedded store answers on other threads of this process meanwhile.
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("the measurement is not cancelled")
        .expect("the measuring process runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let cost: Value = serde_json::from_str(&text).expect("a measurement");
    Cost {
        wall: Duration::from_micros(cost["wall_us"].as_u64().expect("a number")),
        peak: cost["peak_bytes"].as_u64().expect("a number"),
    }
}

/// Runs a command, and prints what it cost. In a small process of its own, since Linux counts the memory of
/// the process that forks as the child's.
fn measure(mut words: impl Iterator<Item = OsString>) {
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).stdout(Stdio::null());
    let start = Instant::now();
    let child = command.spawn().expect("the program starts");
    let end = child.wait4().expect("the program ends");
    let wall = start.elapsed();
    assert!(end.status.success(), "it failed: {}", end.status);
    let wall_us = u64::try_from(wall.as_micros()).expect("a short time");
    println!(
        "{}",
        json!({ "wall_us": wall_us, "peak_bytes": end.rusage.maxrss })
    );
}

/// By wall time; its memory is that of the same run.
fn median(costs: &[Cost]) -> Cost {
    let mut sorted = costs.to_vec();
    sorted.sort_by_key(|cost| cost.wall);
    sorted[sorted.len() / 2]
}

/// A state that Terraform takes, of about this size: one output, one long string.
fn state_of(bytes: usize) -> String {
    let state = json!({
        "version": 4,
        "terraform_version": "1.11.4",
        "serial": 1,
        "lineage": "6ac9afb1-bea5-6ba0-333e-114b1e2fb569",
        "outputs": { "value": { "value": "x".repeat(bytes.saturating_sub(300)), "type": "string" } },
        "resources": [],
        "check_results": null,
    });
    format!("{state:#}\n")
}
