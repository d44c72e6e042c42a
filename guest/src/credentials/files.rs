//! The shared AWS files: which ones count, and what they say together.
//!
//! Files are laid over each other section by section, and only some keys of a later file reach a section that an earlier
//! one has. Without these rules a half of one key pair would be joined to a half of another.

use std::fmt;

use crate::config::Environment;
use crate::platform::{Refusal, Surroundings};

use super::ini::{self, Named, Section, Sections};
use super::{Origin, paths};

pub(super) const KEY_ID: &str = "aws_access_key_id";
pub(super) const SECRET_KEY: &str = "aws_secret_access_key";
pub(super) const SESSION_TOKEN: &str = "aws_session_token";

/// The keys that a later file's section adds to an earlier one's, besides the key pair.
const MERGED: &[&str] = &[
    "auth_scheme_preference",
    "ca_bundle",
    "credential_process",
    "credential_source",
    "defaults_mode",
    "duration_seconds",
    "ec2_metadata_service_endpoint",
    "ec2_metadata_service_endpoint_mode",
    "ec2_metadata_v1_disabled",
    "endpoint_discovery_enabled",
    "external_id",
    "login_session",
    "max_attempts",
    "mfa_serial",
    "region",
    "retry_mode",
    "role_arn",
    "role_session_name",
    "s3_disable_multiregion_access_points",
    "s3_use_arn_region",
    "source_profile",
    "sso_account_id",
    "sso_region",
    "sso_role_name",
    "sso_session",
    "sso_start_url",
    "use_dualstack_endpoint",
    "use_fips_endpoint",
    "web_identity_token_file",
];

/// The arguments that name files.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileArguments {
    /// `shared_config_files`, sorted.
    pub(crate) config: Vec<String>,
    /// `shared_credentials_files`, sorted.
    pub(crate) credentials: Vec<String>,
    /// `shared_credentials_file`, the older spelling.
    pub(crate) older_credentials: Option<String>,
}

/// What all files together say.
#[derive(Default)]
pub(crate) struct SharedFiles {
    sections: Named<Merged>,
    /// In the order of reading.
    pub(super) looked_at: Vec<LookedAt>,
}

/// A section, out of one or more files.
#[derive(Clone)]
pub(super) struct Merged {
    pub(super) properties: Section,
    /// The last file that has the section has half of a key pair.
    pub(super) has_half_a_pair: bool,
    /// Whose the file is that `credential_process` comes from.
    pub(super) process_origin: Origin,
}

impl Merged {
    /// One without a property.
    pub(super) fn empty() -> Self {
        Self {
            properties: Section::default(),
            has_half_a_pair: false,
            process_origin: Origin::UserFile,
        }
    }

    pub(super) fn forget(&mut self, keys: &[&str]) {
        self.properties.forget(keys);
    }

    /// The value of a property, if it has one.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let property = self.properties.get(name)?;
        Some(property.value.as_str()).filter(|value| !value.is_empty())
    }

    pub(super) fn has_keys(&self) -> bool {
        self.text(KEY_ID).is_some() && self.text(SECRET_KEY).is_some()
    }
}

/// A file, and what became of it.
pub(super) struct LookedAt {
    path: String,
    refusal: Option<Refusal>,
}

impl fmt::Display for LookedAt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.path)?;
        match &self.refusal {
            None => Ok(()),
            Some(Refusal::Denied) => formatter.write_str(" (the host does not let it be read)"),
            Some(Refusal::Failed(reason)) => write!(formatter, " ({reason})"),
            Some(Refusal::NotFound) => formatter.write_str(" (not there)"),
        }
    }
}

impl SharedFiles {
    /// Reads all files that count. One that cannot be read counts as empty.
    ///
    /// # Errors
    /// A path that the block names has a `~` that stands for nothing.
    pub(crate) fn load(
        arguments: &FileArguments,
        surroundings: &dyn Surroundings,
    ) -> Result<Self, String> {
        let mut files = Self::default();
        let (paths, origin) = config_paths(arguments, surroundings)?;
        for path in paths {
            files.add(path, Kind::Config, origin, surroundings);
        }
        let (paths, origin) = credentials_paths(arguments, surroundings)?;
        for path in paths {
            files.add(path, Kind::Credentials, origin, surroundings);
        }
        Ok(files)
    }

    /// A profile by its name, or a section `sso-session x` or `services x`.
    pub(super) fn section(&self, name: &str) -> Option<&Merged> {
        self.sections.get(name)
    }

    fn add(&mut self, path: String, kind: Kind, origin: Origin, surroundings: &dyn Surroundings) {
        let refusal = match surroundings.read_file(&path) {
            Ok(bytes) => {
                let bytes = zeroize::Zeroizing::new(bytes);
                self.merge(
                    kind.pick(ini::parse(&String::from_utf8_lossy(&bytes))),
                    origin,
                );
                None
            }
            Err(refusal) => Some(refusal),
        };
        self.looked_at.push(LookedAt { path, refusal });
    }

    fn merge(&mut self, sections: Sections, origin: Origin) {
        for (name, properties) in sections.into_pairs() {
            let has = |key: &str| properties.get(key).is_some();
            let has_half_a_pair = has(KEY_ID) != has(SECRET_KEY);
            let Some(earlier) = self.sections.get_mut(&name) else {
                let section = Merged {
                    properties,
                    has_half_a_pair,
                    process_origin: origin,
                };
                self.sections.put(name, section);
                continue;
            };
            earlier.has_half_a_pair = has_half_a_pair;
            let has_pair = has(KEY_ID) && has(SECRET_KEY);
            for (key, property) in properties.into_pairs() {
                let counts = match key.as_str() {
                    KEY_ID | SECRET_KEY | SESSION_TOKEN => has_pair,
                    key => MERGED.contains(&key),
                };
                if counts {
                    if key == "credential_process" {
                        earlier.process_origin = origin;
                    }
                    earlier.properties.put(key, property);
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Config,
    Credentials,
}

impl Kind {
    /// The sections that count in such a file, profiles under their own names.
    fn pick(self, sections: Sections) -> Sections {
        let mut picked = Sections::default();
        for (name, properties) in sections.into_pairs() {
            let profile = name.strip_prefix("profile ");
            match (self, profile) {
                (Kind::Config, Some(profile)) => {
                    picked.put(profile.to_owned(), properties);
                }
                (Kind::Config, None) => {
                    let kinds = ["sso-session ", "services "];
                    let counts = name.eq_ignore_ascii_case("default")
                        || kinds.iter().any(|kind| name.starts_with(kind));
                    // `[profile default]` replaces `[default]`, wherever it stands.
                    if counts && picked.get(&name).is_none() {
                        picked.put(name, properties);
                    }
                }
                (Kind::Credentials, Some(_)) => {}
                (Kind::Credentials, None) => {
                    picked.put(name, properties);
                }
            }
        }
        picked
    }
}

fn config_paths(
    arguments: &FileArguments,
    environment: &dyn Environment,
) -> Result<(Vec<String>, Origin), String> {
    let expand = |path: &String| {
        paths::expand(path, environment)
            .map_err(|reason| format!("expanding shared config files: {reason}"))
    };
    if !arguments.config.is_empty() {
        let paths = arguments.config.iter().map(expand);
        return Ok((paths.collect::<Result<_, _>>()?, Origin::BlockFile));
    }
    let path = match set(environment, "AWS_SHARED_CONFIG_FILE") {
        Some(path) => Some(expand(&path)?),
        None => set(environment, "AWS_CONFIG_FILE")
            .or_else(|| Some(format!("{}/.aws/config", paths::home(environment)?))),
    };
    Ok((path.into_iter().collect(), Origin::UserFile))
}

fn credentials_paths(
    arguments: &FileArguments,
    environment: &dyn Environment,
) -> Result<(Vec<String>, Origin), String> {
    let expand = |path: &String| {
        paths::expand(path, environment)
            .map_err(|reason| format!("expanding shared credentials files: {reason}"))
    };
    if !arguments.credentials.is_empty() {
        let paths = arguments.credentials.iter().map(expand);
        return Ok((paths.collect::<Result<_, _>>()?, Origin::BlockFile));
    }
    if let Some(path) = set(environment, "AWS_SHARED_CREDENTIALS_FILE") {
        return Ok((vec![expand(&path)?], Origin::UserFile));
    }
    if let Some(path) = &arguments.older_credentials {
        return Ok((vec![expand(path)?], Origin::BlockFile));
    }
    let path = paths::home(environment).map(|home| format!("{home}/.aws/credentials"));
    Ok((path.into_iter().collect(), Origin::UserFile))
}

/// A variable that is set to something.
pub(crate) fn set(environment: &dyn Environment, name: &str) -> Option<String> {
    environment.variable(name).filter(|value| !value.is_empty())
}
