//! What can be typed. Terraform writes long options with one dash; whoever comes from there types them so,
//! and without the translation here `-force` would be read as five short options.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use cofferdam::dev_store::Misbehaviour;
use cofferdam::gateway::DEFAULT_LISTEN;
use cofferdam::{Limits, LimitsError, ProbeOptions, parse_go_duration};

/// Terraform and OpenTofu state in S3, with the storage code sealed in a WebAssembly sandbox.
///
/// The backend block comes from the configuration of the directory, from what `terraform init` left in it, and from
/// --backend-config. Long options may be written with one dash.
#[derive(Parser)]
#[command(name = "cofferdam", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 error, 2 doctor: locking is not safe, 64 wrong usage, 75 somebody else holds the lock, \
130 ended by SIGINT, 143 by SIGTERM; exec passes on those of its command.";

/// Options of every command.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Work in this directory; all other paths are relative to it
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) chdir: Option<PathBuf>,
    /// An argument of the backend block, or a file of them (HCL or JSON); repeatable, later ones win
    #[arg(long, global = true, value_name = "FILE|KEY=VALUE")]
    pub(crate) backend_config: Vec<String>,
    /// The workspace [default: TF_WORKSPACE, else the selected one]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) workspace: Option<String>,
    /// How long to wait for a lock that somebody else holds, such as 30s or 1m30s
    #[arg(long, global = true, value_name = "DURATION", default_value = "0s", value_parser = parse_go_duration)]
    pub(crate) lock_timeout: Duration,
    /// Run the credential_process of a profile also out of files that the backend block names, not only out of ~/.aws
    #[arg(long, global = true)]
    pub(crate) allow_credential_process: bool,
    /// Write although the backend block names no lock
    #[arg(long, global = true)]
    pub(crate) allow_no_locking: bool,
    /// Use a store that refuses conditional writes without them: two writers can overwrite each other
    #[arg(long, global = true)]
    pub(crate) allow_unfenced: bool,
    /// Lock although doctor found that two writers can hold the lock at once in this store
    #[arg(long, global = true)]
    pub(crate) allow_unsafe_locking: bool,
    /// Where doctor's verdict about the store is kept [default: a file for each store in the cache folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) verdict: Option<PathBuf>,
    /// Run this component instead of the built-in one
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) component: Option<PathBuf>,
    /// Refuse to run any component but the one with this SHA-256
    #[arg(long, global = true, value_name = "HEX")]
    pub(crate) component_sha256: Option<String>,
    #[arg(long, global = true, value_name = "NAME=VALUE", help = limits(), value_parser = limit)]
    pub(crate) limit: Vec<String>,
    /// No colours
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

/// A limit that can be set so.
fn limit(text: &str) -> Result<String, LimitsError> {
    Limits::default().with(text).map(|_| text.to_owned())
}

/// The help for `--limit`.
fn limits() -> String {
    let known: Vec<_> = Limits::documented()
        .map(|limit| format!("{} ({})", limit.name, limit.default))
        .collect();
    format!(
        "What one call of the component may use up, such as memory=512MiB; repeatable: {}",
        known.join(", ")
    )
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show what it does, on an S3 server of its own: needs nothing and leaves nothing behind
    Demo(Format),
    /// Run an S3, DynamoDB and STS server for development until Ctrl-C, and print the settings for it
    Dev(DevOptions),
    /// Find out in the store itself whether locking is safe there; ends with 2 when it is not
    ///
    /// Tries out what locks and fenced writes rely on: conditional writes and deletes, alone and in races between 16
    /// writers, and beside them encryption, versioning, the clock and the DynamoDB table. It works under keys of its own
    /// beside the state and removes them again. The verdict is remembered, for this user, endpoint and bucket, or in
    /// --verdict: serve and exec refuse to lock where it says unsafe, and so do all commands that lock.
    ///
    /// Ends with 0 when locking is safe, with 2 when it is not, and with 1 when it could not be told, for example because
    /// a permission is missing.
    Doctor(DoctorOptions),
    /// Run a command, such as terraform apply, whose http backend leads through the sandbox
    ///
    /// The configuration of the command must say backend "http" {}. Where the state is then comes from --backend-config.
    /// The command gets TF_HTTP_ADDRESS, TF_HTTP_LOCK_ADDRESS, TF_HTTP_UNLOCK_ADDRESS, TF_HTTP_USERNAME and
    /// TF_HTTP_PASSWORD, and all the rest of this environment, AWS credentials included: its providers may need them.
    Exec(ExecOptions),
    /// Show what the configuration resolves to and why: region, endpoints, credentials, locking, what the store may do
    ///
    /// Makes no request and shows no secret. Credentials are the source that would be used, and those that were passed over,
    /// each with the reason; whether they are good, only a request can tell.
    Explain(Format),
    /// Release a lock that its holder left behind
    ForceUnlock(ForceUnlockOptions),
    /// Print the least IAM policy that the configuration needs, as JSON
    ///
    /// For the current workspace, for each --workspace, or for --all-workspaces. What IAM cannot know from the configuration
    /// stands on standard error. Makes no request.
    ///
    /// States may be deleted only with --delete-workspaces, and versions of objects never, except a probe's own.
    IamPolicy(IamPolicyOptions),
    /// Look at locks
    Lock {
        #[command(subcommand)]
        command: LockCommand,
    },
    /// Mend what an interrupted writer or another program left behind
    Repair {
        #[command(subcommand)]
        command: RepairCommand,
    },
    /// Serve the states to Terraform's http backend until Ctrl-C
    Serve(ServeOptions),
    /// Fetch and store states
    State {
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Print the versions of this program and of what it carries
    Version(Format),
    /// List, select, create and delete workspaces
    Workspace {
        #[command(subcommand)]
        command: WorkspaceCommand,
    },
}

#[derive(Subcommand)]
pub(crate) enum LockCommand {
    /// Who holds the lock, and for how long; ends with 75 when somebody does
    Status(Format),
}

#[derive(Subcommand)]
pub(crate) enum RepairCommand {
    /// Compare the state with the digest that DynamoDB holds of it, and mend the digest
    ///
    /// Terraform and OpenTofu refuse to read a state whose digest is another one. This command shows both, with serial and
    /// lineage, asks, and records the digest of what is stored; where nothing is stored, it removes the digest. It never
    /// changes the state. It refuses when the digest belongs to a version that the bucket still keeps and that is newer
    /// than the stored state or has another lineage: then the state is what needs mending.
    Digest(RepairDigestOptions),
}

#[derive(Subcommand)]
pub(crate) enum StateCommand {
    /// Write the state to standard output, byte for byte as it is stored
    Pull,
    /// Store a state, byte for byte
    Push(PushOptions),
}

#[derive(Subcommand)]
pub(crate) enum WorkspaceCommand {
    /// The names of all workspaces, the current one marked
    List(Format),
    /// The name of the current workspace
    Show(Format),
    /// Make a workspace the current one
    Select(SelectOptions),
    /// Create a workspace and make it the current one
    New(NewOptions),
    /// Delete a workspace
    Delete(DeleteOptions),
}

#[derive(Args)]
pub(crate) struct Format {
    /// Print JSON, with a format_version that changes with its shape
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct DevOptions {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    pub(crate) listen: SocketAddr,
    /// Keep objects and items in this directory [default: in memory]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The bucket
    #[arg(long, value_name = "NAME", default_value = "tfstate")]
    pub(crate) bucket: String,
    /// The DynamoDB table for locks, at the same address
    #[arg(long, value_name = "NAME", default_value = "tfstate-locks")]
    pub(crate) table: String,
    /// Keep what is replaced or deleted in the bucket as versions
    #[arg(long)]
    pub(crate) versioning: bool,
    #[arg(long, value_name = "NAME[=NUMBER]", help = misbehaviours())]
    pub(crate) misbehave: Vec<Misbehaviour>,
    /// The only access key id that may sign [default: generated]
    #[arg(long, value_name = "ID", requires = "secret_key")]
    pub(crate) access_key: Option<String>,
    /// Its secret
    #[arg(long, value_name = "SECRET", requires = "access_key")]
    pub(crate) secret_key: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// The help for `--misbehave`.
fn misbehaviours() -> String {
    let names = Misbehaviour::ALL.map(|misbehaviour| misbehaviour.to_string());
    format!(
        "Break a promise, to see what a backend does then; repeatable: {}",
        names.join(", ")
    )
}

#[derive(Args)]
pub(crate) struct DoctorOptions {
    /// How many races to run: more find rarer faults [default: the component's own number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(ProbeOptions::MAX_ROUNDS)))]
    pub(crate) rounds: Option<u32>,
    /// Try it out on AWS's own endpoints too; otherwise they count as safe
    #[arg(long, alias = "probe-aws")]
    pub(crate) even_aws: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args)]
pub(crate) struct ExecOptions {
    /// Let `terraform force-unlock` break locks; it sends no lock id, so any id does
    #[arg(long)]
    pub(crate) allow_force_unlock: bool,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct ForceUnlockOptions {
    /// Do not ask
    #[arg(long)]
    pub(crate) force: bool,
    /// LOCK_ID is the token that `lock status` shows: for a lock whose record cannot be read
    #[arg(long)]
    pub(crate) token: bool,
    /// The id of the lock
    #[arg(value_name = "LOCK_ID")]
    pub(crate) id: String,
}

#[derive(Args)]
pub(crate) struct IamPolicyOptions {
    /// What it is for
    #[arg(long = "for", value_name = "PURPOSE", value_enum, default_value_t = PolicyPurpose::Apply)]
    pub(crate) purpose: PolicyPurpose,
    /// A workspace; repeatable [default: TF_WORKSPACE, else the selected one]
    // In place of the option of every command, which takes one.
    #[arg(
        id = "workspace",
        long,
        value_name = "NAME",
        conflicts_with = "all_workspaces"
    )]
    pub(crate) workspaces: Vec<String>,
    /// All workspaces, also those to come, and their list
    #[arg(long)]
    pub(crate) all_workspaces: bool,
    /// With --for apply: workspaces other than default may be deleted
    #[arg(long)]
    pub(crate) delete_workspaces: bool,
    /// With --for doctor: as doctor itself has it
    #[arg(long)]
    pub(crate) even_aws: bool,
    /// Print the policy of the bucket instead, for this ARN or id of an account; repeatable
    #[arg(long, value_name = "ARN")]
    pub(crate) principal: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PolicyPurpose {
    /// Plan and apply: read, lock and write states, new workspaces' too
    Apply,
    /// Find out whether locking is safe
    Doctor,
    /// Read states
    Outputs,
    /// Read states, and lock them meanwhile
    Plan,
    /// Repair digests
    Repair,
}

#[derive(Args)]
pub(crate) struct ServeOptions {
    /// Where to listen; without TLS only this machine's own addresses
    #[arg(long, value_name = "ADDRESS", default_value_t = DEFAULT_LISTEN)]
    pub(crate) listen: SocketAddr,
    /// The file with the token that clients must show [default: generated, and printed]
    #[arg(long, value_name = "FILE", conflicts_with = "no_auth")]
    pub(crate) token_file: Option<PathBuf>,
    /// Serve whoever can connect
    #[arg(long)]
    pub(crate) no_auth: bool,
    /// Let `terraform force-unlock` break locks; it sends no lock id, so any id does
    #[arg(long)]
    pub(crate) allow_force_unlock: bool,
    /// Certificate chain for https, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A further host name under which clients come; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args)]
pub(crate) struct PushOptions {
    /// Store it whatever serial and lineage say; the lock is taken all the same
    #[arg(long)]
    pub(crate) force: bool,
    /// The state, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Args)]
pub(crate) struct RepairDigestOptions {
    /// Mend it even if the digest belongs to a newer state, or one of another lineage
    #[arg(long)]
    pub(crate) force: bool,
    /// Go on only if the stored state has this lineage
    #[arg(long, value_name = "LINEAGE")]
    pub(crate) lineage: Option<String>,
    /// Whether to take the lock
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) lock: bool,
    /// Remove the digest instead: a missing one keeps nobody out
    #[arg(long)]
    pub(crate) remove: bool,
    /// Go on only if the stored state has this serial
    #[arg(long, value_name = "N")]
    pub(crate) serial: Option<u64>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Args)]
pub(crate) struct SelectOptions {
    /// Create the workspace if it does not exist
    #[arg(long)]
    pub(crate) or_create: bool,
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Args)]
pub(crate) struct NewOptions {
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Args)]
pub(crate) struct DeleteOptions {
    /// Delete it even if its state still tracks resources
    #[arg(long)]
    pub(crate) force: bool,
    /// Its name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// Reads the command line. What can be typed is put together once: that takes as long as a request.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let mut root = Arguments::command();
    let line = normalised(&root, words);
    let mut matches = root.try_get_matches_from_mut(line)?;
    Arguments::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut root))
}

/// Rewrites Terraform's spellings: `-option` as `--option`, `-flag=true` as `--flag`, and drops `-flag=false`. Options
/// that stand before a subcommand move behind it, since repeated ones given on both sides would not add up otherwise.
///
/// Nothing is touched after `--`, nor from the command of `exec` on.
fn normalised(root: &clap::Command, words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut node = root;
    let mut words = words.peekable();
    let mut line: Vec<OsString> = words.next().into_iter().collect();
    let mut early = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            line.append(&mut early);
            line.push(word);
            break;
        }
        let Some(option) = option(&word) else {
            if let Some(subcommand) = node.find_subcommand(&word) {
                node = subcommand;
                line.push(word);
                if !node.has_subcommands() {
                    line.append(&mut early);
                }
                continue;
            }
            line.push(word);
            if node.get_name() == "exec" {
                break;
            }
            continue;
        };
        let place = if node.has_subcommands() {
            &mut early
        } else {
            &mut line
        };
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option.as_str(), None),
        };
        match (takes_value(root, node, name), value) {
            (Some(false), Some("true")) => place.push(name.into()),
            (Some(false), Some("false")) => {}
            (Some(true), None) => {
                place.push(name.into());
                place.extend(words.next());
            }
            _ => place.push(option.into()),
        }
    }
    line.append(&mut early);
    line.extend(words);
    line
}

/// Whether an option of a command, or of every command, has a value; `None`: there is no such option.
fn takes_value(root: &clap::Command, node: &clap::Command, option: &str) -> Option<bool> {
    let name = option.strip_prefix("--")?;
    let of_every_command = root.get_arguments().filter(|it| it.is_global_set());
    node.get_arguments()
        .chain(of_every_command)
        .find(|argument| argument.get_long() == Some(name))
        .map(|argument| argument.get_action().takes_values())
}

/// The word with two dashes, if it is a long option with one or two.
fn option(word: &OsStr) -> Option<String> {
    let text = word.to_str()?;
    let name = text.strip_prefix('-')?;
    if name.starts_with('-') {
        return Some(text.to_owned());
    }
    // A single letter is a short option; a lone dash is standard input.
    match name.chars().count() {
        0 => None,
        1 => Some(text.to_owned()),
        _ => Some(format!("-{text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = line.split_whitespace().map(OsString::from);
        normalised(&Arguments::command(), words)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    fn assert_reads_as(typed: &str, meant: &str) {
        assert_eq!(
            words(typed),
            meant.split_whitespace().collect::<Vec<_>>(),
            "{typed}"
        );
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        assert_reads_as(
            "cofferdam state push -force -lock-timeout=30s -backend-config=bucket=b -",
            "cofferdam state push --force --lock-timeout=30s --backend-config=bucket=b -",
        );
        assert_reads_as("cofferdam -help", "cofferdam --help");
        assert_reads_as("cofferdam -h", "cofferdam -h");
        assert_reads_as("cofferdam version -json", "cofferdam version --json");
    }

    #[test]
    fn flags_may_carry_true_or_false() {
        assert_reads_as(
            "cofferdam workspace delete -force=true -no-color=false dev",
            "cofferdam workspace delete --force dev",
        );
    }

    #[test]
    fn options_before_the_subcommand_add_up_with_those_behind_it() {
        let line =
            "cofferdam -chdir=/x -backend-config a state --backend-config b pull -backend-config=c";
        assert_reads_as(
            line,
            "cofferdam state pull --chdir=/x --backend-config a --backend-config b --backend-config=c",
        );
        let arguments = parse(line.split_whitespace().map(OsString::from))
            .ok()
            .unwrap();
        assert_eq!(arguments.global.backend_config, ["a", "b", "c"]);
        assert_eq!(arguments.global.chdir, Some("/x".into()));
    }

    #[test]
    fn an_options_value_is_neither_a_subcommand_nor_an_option() {
        assert_reads_as(
            "cofferdam -workspace exec state pull",
            "cofferdam state pull --workspace exec",
        );
        assert_reads_as(
            "cofferdam state pull --workspace -odd",
            "cofferdam state pull --workspace -odd",
        );
    }

    #[test]
    fn dev_misbehaves_as_told_and_lists_how_it_can() {
        let dev = |line: &str| parse(line.split_whitespace().map(OsString::from));
        let arguments = dev("cofferdam dev -misbehave racy -misbehave=lose-answers=2").ok();
        let Some(Command::Dev(options)) = arguments.map(|arguments| arguments.command) else {
            panic!("not dev")
        };
        let expected = [Misbehaviour::Racy, Misbehaviour::LoseAnswers { every: 2 }];
        assert_eq!(options.misbehave, expected);
        let help = dev("cofferdam dev -help").err().unwrap().to_string();
        let error = dev("cofferdam dev --misbehave be-nice").err().unwrap();
        for misbehaviour in Misbehaviour::ALL {
            assert!(help.contains(misbehaviour.name()), "{help}");
            assert!(error.to_string().contains(misbehaviour.name()), "{error}");
        }
    }

    #[test]
    fn nothing_of_execs_command_is_touched() {
        for line in [
            "cofferdam exec --workspace dev terraform -chdir=x apply -lock=true -- -a",
            "cofferdam exec --workspace dev -- terraform -chdir=x apply -auto-approve",
        ] {
            assert_reads_as(line, line);
            let arguments = parse(line.split_whitespace().map(OsString::from))
                .ok()
                .unwrap();
            let Command::Exec(options) = arguments.command else {
                panic!("not exec")
            };
            assert_eq!(options.command[0], "terraform");
            assert_eq!(options.command[1], "-chdir=x");
            assert_eq!(arguments.global.workspace.as_deref(), Some("dev"));
        }
        assert_reads_as(
            "cofferdam -workspace=dev exec -allow-force-unlock terraform force-unlock -force x",
            "cofferdam exec --workspace=dev --allow-force-unlock terraform force-unlock -force x",
        );
    }

    #[test]
    fn nothing_after_two_dashes_is_touched() {
        assert_reads_as(
            "cofferdam state push -- -odd",
            "cofferdam state push -- -odd",
        );
    }

    #[test]
    fn unknown_options_are_refused_under_their_long_name() {
        let error = parse(
            "cofferdam state push -froce f"
                .split_whitespace()
                .map(OsString::from),
        )
        .err()
        .unwrap()
        .to_string();
        assert!(
            error.contains("'--froce'") && error.contains("'--force'"),
            "{error}"
        );
    }
}
