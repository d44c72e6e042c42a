//! A person's own machine: the variables and files of AWS's tools, and the commands that the person wrote down.
//!
//! What a file name means is decided on what it resolves to, so that neither `..` nor a link leads out. A backend block
//! may come with a repository that somebody else wrote, so commands count only where the person keeps them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use super::{LOCAL_VARIABLES, Refusal, Surroundings};
use crate::environment::{Environment, expand};
use crate::shared_files::{SharedFiles, values};
use crate::small_file;

/// How long a `credential_process` may take: as the AWS SDKs have it.
const COMMAND_TIME: Duration = Duration::from_secs(60);
/// The most that a `credential_process` may print. Bytes; credentials have about two kilobytes.
const MAX_OUTPUT: u64 = 64 << 10;

/// Variables and arguments that name a file besides the shared ones.
const FILE_VARIABLES: &[&str] = &[
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
];

/// What a store on a person's own machine sees.
///
/// - Variables: [`LOCAL_VARIABLES`].
/// - Files up to 1 MiB, read-only: under `~/.aws`, and those that the block, these variables, or a shared file's
///   `web_identity_token_file` names.
/// - Files to replace: `~/.aws/sso/cache/*.json`.
/// - Commands: those that stand as a `credential_process` in the person's own files, which are files directly in
///   `~/.aws` and files that the variables name; a file elsewhere that the block names does not count, unless
///   [`allow_credential_process`](Self::allow_credential_process) says so.
#[derive(Clone)]
pub struct Local {
    environment: Environment,
    shared: SharedFiles,
    /// Further files that may be read.
    named: Vec<String>,
    any_command: bool,
    command_time: Duration,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Local")
            .field("shared", &self.shared)
            .field("named", &self.named)
            .field("any_command", &self.any_command)
            .finish_non_exhaustive()
    }
}

impl Local {
    /// What a store of this backend block sees of this process's environment and files.
    pub fn new(config: &Value) -> Self {
        Self::with(config, Environment::Process)
    }

    /// Whether commands also count that stand in other files which the block names. Default: they do not.
    #[must_use]
    pub fn allow_credential_process(mut self, allow: bool) -> Self {
        self.any_command = allow;
        self
    }

    pub(crate) fn with(config: &Value, environment: Environment) -> Self {
        let web_identity = "assume_role_with_web_identity";
        let token_file = "web_identity_token_file";
        let in_block = config
            .get(web_identity)
            .and_then(|block| block.get(token_file))
            .or_else(|| config.get(format!("{web_identity}.{token_file}")))
            .and_then(Value::as_str)
            .map(str::to_owned);
        let by_variable = FILE_VARIABLES
            .iter()
            .filter_map(|name| Some(environment.first(&[*name])?.1));
        let variable = |name: &str| visible(&environment, name);
        Self {
            shared: SharedFiles::of(config, variable),
            named: in_block
                .into_iter()
                .chain(by_variable)
                .filter_map(|path| expand(&path, variable))
                .collect(),
            environment: environment.clone(),
            any_command: false,
            command_time: COMMAND_TIME,
        }
    }

    /// What a store sees, for `explain`: variables that are set, files, and whose commands.
    pub(crate) async fn explain(&self) -> Value {
        let is_set = |name: &&&str| self.environment.get(name).is_some();
        let variables: Vec<_> = LOCAL_VARIABLES.iter().filter(is_set).collect();
        let mut files = Vec::new();
        if let (Some(folder), Some(cache)) = (self.aws(""), self.aws("sso/cache/*.json")) {
            files.push(format!("read {}", folder.display()));
            files.push(format!("replace {}", cache.display()));
        }
        let mut named: Vec<String> = self.shared.paths().chain(&self.named).cloned().collect();
        for path in self.shared.paths() {
            named.extend(keys(path, "web_identity_token_file"));
        }
        let folder = self.aws("");
        named.retain(|path| {
            !folder
                .as_ref()
                .is_some_and(|it| Path::new(path).starts_with(it))
        });
        for path in named {
            let file = format!("read {path}");
            if !files.contains(&file) {
                files.push(file);
            }
        }
        json!({
            "variables": variables,
            "files": files,
            "commands": if self.any_command { "any-file" } else { "own-files" },
        })
    }

    /// `~/.aws`, and what is in it.
    fn aws(&self, within: &str) -> Option<PathBuf> {
        let (_, home) = self.environment.first(&["HOME"])?;
        Some(Path::new(&home).join(".aws").join(within))
    }

    fn sso_cache(&self) -> Option<PathBuf> {
        resolve(&self.aws("sso/cache")?).ok()
    }

    /// Decides on a path that is resolved.
    fn may_read(&self, place: &Path) -> bool {
        for folder in ["", "sso/cache"] {
            if let Some(folder) = self.aws(folder)
                && let Ok(folder) = resolve(&folder)
                && place.starts_with(folder)
            {
                return true;
            }
        }
        for path in self.shared.paths().chain(&self.named) {
            if is(path, place) {
                return true;
            }
        }
        for path in self.shared.paths() {
            for token_file in keys(path, "web_identity_token_file") {
                if is(&token_file, place) {
                    return true;
                }
            }
        }
        false
    }

    fn may_run(&self, command: &str) -> bool {
        let mut files = self.shared.own.clone();
        let folder = match self.aws("") {
            Some(folder) => resolve(&folder).ok(),
            None => None,
        };
        for path in &self.shared.of_block {
            let place = resolve(path.as_ref()).ok();
            let directly_in_it = place.as_deref().and_then(Path::parent) == folder.as_deref();
            if self.any_command || (directly_in_it && folder.is_some()) {
                files.push(path.clone());
            }
        }
        for path in &files {
            let commands = keys(path, "credential_process");
            if commands.iter().any(|known| known == command) {
                return true;
            }
        }
        false
    }
}

#[async_trait]
impl Surroundings for Local {
    async fn credentials(&self) -> Result<Option<super::AccessKey>, Refusal> {
        Ok(None)
    }

    async fn variable(&self, name: &str) -> Result<Option<String>, Refusal> {
        if !LOCAL_VARIABLES.contains(&name) {
            return Err(Refusal::Denied);
        }
        Ok(self.environment.get(name))
    }

    async fn read_file(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        // What is named outright may be read wherever it leads; to find out would take a look at every folder above it.
        if self.shared.paths().chain(&self.named).any(|it| it == path) {
            return small_file::read(path.as_ref()).map_err(refusal);
        }
        let place = resolve(path.as_ref()).map_err(|_| Refusal::Denied)?;
        if !self.may_read(&place) {
            return Err(Refusal::Denied);
        }
        small_file::read(&place).map_err(refusal)
    }

    async fn replace_file(&self, path: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let path = Path::new(path);
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Refusal::Denied);
        };
        let folder = resolve(folder).map_err(|_| Refusal::Denied)?;
        let is_cache = self.sso_cache().is_some_and(|cache| cache == folder);
        if !is_cache || path.extension().is_none_or(|it| it != "json") {
            return Err(Refusal::Denied);
        }
        if bytes.len() as u64 > small_file::MAX_FILE {
            return Err(Refusal::Failed("it is larger than 1 MiB".to_owned()));
        }
        let bytes = Zeroizing::new(bytes.to_vec());
        let target = folder.join(name);
        let replaced = tokio::task::spawn_blocking(move || replace(&folder, &target, &bytes));
        replaced
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(refusal)
    }

    async fn run(&self, command: &str) -> Result<Vec<u8>, Refusal> {
        if !self.may_run(command) {
            return Err(Refusal::Denied);
        }
        run(command, &self.environment, self.command_time).await
    }
}

fn visible(environment: &Environment, name: &str) -> Option<String> {
    LOCAL_VARIABLES
        .contains(&name)
        .then(|| environment.get(name))
        .flatten()
}

/// Where a path leads, links and `..` resolved. What does not exist is resolved as far as it does. Here and in the
/// reading of these small files nothing is handed to another thread: that takes ten times as long as the look.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let error = match std::fs::canonicalize(path) {
        Ok(place) => return Ok(place),
        Err(error) => error,
    };
    if error.kind() != io::ErrorKind::NotFound {
        return Err(error);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(error);
    };
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    Ok(resolve(folder)?.join(name))
}

/// Whether a path leads to this place.
fn is(path: &str, place: &Path) -> bool {
    let found = resolve(path.as_ref());
    found.is_ok_and(|found| found == place)
}

/// What a shared file says; nothing, when it cannot be read.
fn keys(path: &str, key: &str) -> Vec<String> {
    match small_file::read(path.as_ref()) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            values(
                &Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()),
                key,
            )
        }
        Err(_) => Vec::new(),
    }
}

/// Whole or not at all, and for nobody else to read.
fn replace(folder: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    // Created with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    file.persist(target)?;
    Ok(())
}

/// Runs a command as the AWS SDKs do: by the shell, with the person's own environment. Its complaints go to the
/// terminal; a person may have to answer it there, which is why it stays in the terminal's group of processes. It
/// gets no input: that of this process may be a state.
async fn run(command: &str, environment: &Environment, time: Duration) -> Result<Vec<u8>, Refusal> {
    let mut shell = tokio::process::Command::new("sh");
    shell.arg("-c").arg(command);
    if let Environment::Given(variables) = environment {
        shell.env_clear().envs(variables.iter());
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped());
    // A call that is given up ends it, too.
    shell.kill_on_drop(true);
    let mut child = shell
        .spawn()
        .map_err(|error| Refusal::Failed(format!("cannot start a shell: {error}")))?;
    let mut printed = Zeroizing::new(Vec::new());
    let ended = async {
        if let Some(output) = child.stdout.take() {
            let mut output = output.take(MAX_OUTPUT + 1);
            output.read_to_end(&mut printed).await?;
        }
        if printed.len() as u64 > MAX_OUTPUT {
            return Err(io::Error::other("it printed more than 64 KiB"));
        }
        child.wait().await
    };
    let ended = tokio::time::timeout(time, ended).await.unwrap_or_else(|_| {
        let seconds = time.as_secs();
        Err(io::Error::other(format!("it took longer than {seconds} s")))
    });
    match ended.map(|status| (status.code(), status)) {
        Ok((Some(0), _)) => Ok(std::mem::take(&mut *printed)),
        Ok((Some(code), _)) => Err(Refusal::Failed(format!("exit status {code}"))),
        Ok((None, status)) => Err(Refusal::Failed(status.to_string())),
        Err(error) => {
            // Nothing is lost when it is gone already.
            let _ = child.kill().await;
            Err(Refusal::Failed(error.to_string()))
        }
    }
}

fn refusal(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::NotFound => Refusal::NotFound,
        _ => Refusal::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::sync::Arc;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    /// A home directory with shared files, and a directory beside it.
    struct Machine {
        root: TempDir,
    }

    impl Machine {
        fn new() -> Self {
            let machine = Self {
                root: tempfile::tempdir().unwrap(),
            };
            std::fs::create_dir_all(machine.path("home/.aws/sso/cache")).unwrap();
            std::fs::create_dir_all(machine.path("project")).unwrap();
            machine.write("home/.aws/config", "[default]\nregion = eu-west-1\n");
            machine.write("home/.ssh", "canary");
            machine
        }

        fn path(&self, path: &str) -> String {
            self.root.path().join(path).to_str().unwrap().to_owned()
        }

        fn write(&self, path: &str, content: &str) {
            std::fs::write(self.path(path), content).unwrap();
        }

        fn local(&self, config: &Value, variables: &[(&str, &str)]) -> Local {
            let mut all = std::collections::BTreeMap::from([
                ("HOME".to_owned(), self.path("home")),
                ("PATH".to_owned(), std::env::var("PATH").unwrap()),
            ]);
            for (name, value) in variables {
                all.insert((*name).to_owned(), (*value).to_owned());
            }
            Local::with(config, Environment::Given(Arc::new(all)))
        }

        async fn read(&self, local: &Local, path: &str) -> Result<String, Refusal> {
            let bytes = local.read_file(&self.path(path)).await?;
            Ok(String::from_utf8(bytes).unwrap())
        }
    }

    #[tokio::test]
    async fn only_documented_variables_are_seen() {
        let local = Machine::new().local(&json!({}), &[("AWS_PROFILE", "p"), ("SECRET", "canary")]);
        assert_eq!(
            local.variable("AWS_PROFILE").await,
            Ok(Some("p".to_owned()))
        );
        assert_eq!(local.variable("AWS_REGION").await, Ok(None));
        for name in ["SECRET", "PATH", "HTTPS_PROXY", "AWS_CA_BUNDLE", ""] {
            assert_eq!(local.variable(name).await, Err(Refusal::Denied), "{name}");
        }
        assert!(!format!("{local:?}").contains("canary"));
    }

    #[tokio::test]
    async fn files_outside_the_grant_are_denied_however_they_are_spelt() {
        let machine = Machine::new();
        symlink(machine.path("home/.ssh"), machine.path("home/.aws/link")).unwrap();
        symlink(machine.path("home"), machine.path("home/.aws/up")).unwrap();
        let local = machine.local(&json!({}), &[]);
        for path in [
            "home/.ssh",
            "home/.aws/../.ssh",
            "home/.aws/link",
            "home/.aws/up/.ssh",
            "home/.aws/nothing/../../.ssh",
            "home/.awsx",
            "home/nothing",
            "project/x",
        ] {
            let denied = machine.read(&local, path).await;
            assert_eq!(denied, Err(Refusal::Denied), "{path}");
        }
        for path in ["", "/etc/passwd", ".", "a\0b"] {
            assert_eq!(local.read_file(path).await, Err(Refusal::Denied), "{path}");
        }
        let config = machine.read(&local, "home/.aws/sso/../config").await;
        assert!(config.unwrap().contains("eu-west-1"));
        let missing = machine.read(&local, "home/.aws/credentials").await;
        assert_eq!(missing, Err(Refusal::NotFound));
        let folder = machine.read(&local, "home/.aws/sso").await;
        assert!(matches!(folder, Err(Refusal::Failed(_))), "{folder:?}");
    }

    #[tokio::test]
    async fn files_that_the_block_or_a_variable_names_are_read() {
        let machine = Machine::new();
        for file in ["a", "b", "c", "d", "e", "f", "unnamed"] {
            machine.write(&format!("project/{file}"), file);
        }
        machine.write(
            "project/a",
            &format!(
                "[profile p]\nweb_identity_token_file = {}\n",
                machine.path("project/f")
            ),
        );
        // Where the usual file is kept elsewhere, it still is the usual file.
        symlink(
            machine.path("project/e"),
            machine.path("home/.aws/credentials"),
        )
        .unwrap();
        let config = json!({
            "shared_config_files": ["~/../project/a"],
            "shared_credentials_files": [machine.path("project/b")],
            "assume_role_with_web_identity": {"web_identity_token_file": "$HOME/../project/c"},
        });
        let token = machine.path("project/d");
        let local = machine.local(&config, &[("AWS_WEB_IDENTITY_TOKEN_FILE", &token)]);
        for file in ["b", "c", "d", "f"] {
            let read = machine.read(&local, &format!("project/{file}")).await;
            assert_eq!(read.as_deref(), Ok(file));
        }
        let usual = machine.read(&local, "home/.aws/credentials").await;
        assert_eq!(usual.as_deref(), Ok("e"));
        let unnamed = machine.read(&local, "project/unnamed").await;
        assert_eq!(unnamed, Err(Refusal::Denied));
    }

    #[tokio::test]
    async fn a_file_of_more_than_a_mebibyte_is_not_read() {
        let machine = Machine::new();
        let local = machine.local(&json!({}), &[]);
        machine.write("home/.aws/config", &"x".repeat(1 << 20));
        assert!(machine.read(&local, "home/.aws/config").await.is_ok());
        machine.write("home/.aws/config", &"x".repeat((1 << 20) + 1));
        let large = machine.read(&local, "home/.aws/config").await;
        assert!(matches!(large, Err(Refusal::Failed(_))), "{large:?}");
    }

    #[tokio::test]
    async fn only_cached_sso_tokens_are_replaced() {
        let machine = Machine::new();
        let local = machine.local(&json!({}), &[]);
        machine.write("home/.aws/sso/cache/a.json", "old");
        symlink(
            machine.path("home/.ssh"),
            machine.path("home/.aws/sso/cache/link.json"),
        )
        .unwrap();
        for name in ["a", "new", "link"] {
            let path = machine.path(&format!("home/.aws/sso/cache/{name}.json"));
            assert_eq!(local.replace_file(&path, b"token").await, Ok(()));
            let read = machine
                .read(&local, &format!("home/.aws/sso/cache/{name}.json"))
                .await;
            assert_eq!(read.as_deref(), Ok("token"), "{name}");
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let kept = std::fs::read_to_string(machine.path("home/.ssh")).unwrap();
        assert_eq!(kept, "canary", "a link is replaced, not followed");
        let names = std::fs::read_dir(machine.path("home/.aws/sso/cache")).unwrap();
        assert_eq!(names.count(), 3, "nothing is left behind");
        for path in [
            "home/.aws/config",
            "home/.aws/x.json",
            "home/.aws/sso/x.json",
            "home/.aws/sso/cache/x.txt",
            "home/.aws/sso/cache/.json",
            "home/.aws/sso/cache/../x.json",
            "home/.aws/sso/cache/nothing/x.json",
            "project/x.json",
        ] {
            let denied = local.replace_file(&machine.path(path), b"token").await;
            assert_eq!(denied, Err(Refusal::Denied), "{path}");
        }
    }

    #[tokio::test]
    async fn commands_count_only_where_the_person_keeps_them() {
        let machine = Machine::new();
        machine.write(
            "home/.aws/config",
            "[default]\ncredential_process = echo own\n",
        );
        machine.write(
            "home/.aws/work",
            "[default]\ncredential_process = echo work\n",
        );
        machine.write(
            "home/.aws/sso/cache/x.json",
            "credential_process = echo cache\n",
        );
        machine.write(
            "project/mine",
            "[default]\ncredential_process = echo mine\n",
        );
        machine.write(
            "project/theirs",
            "[default]\ncredential_process = echo theirs\n",
        );
        let config = json!({"shared_config_files": [
            machine.path("home/.aws/work"),
            machine.path("home/.aws/sso/cache/x.json"),
            machine.path("project/theirs"),
        ]});
        let mine = machine.path("project/mine");
        let local = machine.local(&config, &[("AWS_CONFIG_FILE", &mine)]);
        for name in ["own", "work", "mine"] {
            let printed = local.run(&format!("echo {name}")).await;
            assert_eq!(printed, Ok(format!("{name}\n").into_bytes()));
        }
        for command in [
            "echo theirs",
            "echo cache",
            "echo other",
            "echo",
            "echo own;",
            "",
        ] {
            assert_eq!(local.run(command).await, Err(Refusal::Denied), "{command}");
        }
        let allowed = local.allow_credential_process(true);
        assert_eq!(allowed.run("echo theirs").await, Ok(b"theirs\n".to_vec()));
        assert_eq!(allowed.run("echo other").await, Err(Refusal::Denied));
    }

    async fn run_alone(
        machine: &Machine,
        command: &str,
        time: Duration,
    ) -> Result<Vec<u8>, Refusal> {
        let text = format!("[default]\ncredential_process = {command}\n");
        machine.write("home/.aws/config", &text);
        let mut local = machine.local(&json!({}), &[("OWN", "variable")]);
        local.command_time = time;
        local.run(command).await
    }

    #[tokio::test]
    async fn a_command_runs_in_the_shell_with_the_persons_environment_and_no_input() {
        let machine = Machine::new();
        let run = async |command| run_alone(&machine, command, COMMAND_TIME).await;
        assert_eq!(
            run("cat; echo $OWN 2>&1 | tr a-z A-Z").await,
            Ok(b"VARIABLE\n".to_vec())
        );
        assert_eq!(
            run("echo canary; exit 3").await,
            Err(Refusal::Failed("exit status 3".to_owned()))
        );
        let killed = run("kill -9 $$").await;
        assert!(
            matches!(&killed, Err(Refusal::Failed(why)) if why.contains("signal")),
            "{killed:?}"
        );
        let much = run("yes").await;
        assert_eq!(
            much,
            Err(Refusal::Failed("it printed more than 64 KiB".to_owned()))
        );
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_killed() {
        let machine = Machine::new();
        let pid = machine.path("project/pid");
        let command = format!("echo $$ > {pid}.part && mv {pid}.part {pid} && exec sleep 600");
        let late = run_alone(&machine, &command, Duration::from_secs(2)).await;
        assert_eq!(
            late,
            Err(Refusal::Failed("it took longer than 2 s".to_owned()))
        );
        // On a machine so busy that the command did not begin within this time it never will.
        if let Ok(pid) = std::fs::read_to_string(pid) {
            assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
        }
    }
}
