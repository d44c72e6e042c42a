//! What a profile of the shared AWS files stands for: one source of credentials, and settings.
//!
//! Profiles lean on each other and may hold several sources at once. Without the SDK's order among them, the same profile
//! would mean one identity to Terraform and another one here.

use crate::config::{Environment, Service, ServiceLocation, Sourced};
use crate::platform::AccessKey;
use crate::secret::Secret;

use super::chain;
use super::files::{KEY_ID, Merged, SECRET_KEY, SESSION_TOKEN, SharedFiles};
use super::{
    ImdsArguments, ProcessArguments, RoleArguments, Source, SsoArguments, StaticKeys, Token,
    WebIdentityArguments, paths,
};

/// Shortest and usual life of a role's credentials. Seconds.
pub(super) const USUAL_DURATION: u32 = 900;

/// What only the first visit of a profile may use: it may be its own source.
const ROLE_KEYS: &[&str] = &[
    "external_id",
    "mfa_serial",
    "role_arn",
    "role_session_name",
    "source_profile",
];

/// What a profile with a source profile does not use itself.
const CREDENTIAL_KEYS: &[&str] = &[
    KEY_ID,
    SECRET_KEY,
    SESSION_TOKEN,
    "credential_process",
    "credential_source",
    "sso_account_id",
    "sso_region",
    "sso_role_name",
    "sso_start_url",
    "web_identity_token_file",
];

/// What the older form of SSO takes of the profile, in the order of complaint.
const SSO_KEYS: [&str; 4] = [
    "sso_region",
    "sso_start_url",
    "sso_account_id",
    "sso_role_name",
];

/// Where a service for credentials is, the region being a profile's.
pub(super) type Locate<'a> = &'a dyn Fn(Service, &str) -> Result<Sourced<ServiceLocation>, String>;

/// A profile, and what it leans on. None of it is used yet.
pub(super) struct Profile {
    pub(super) name: String,
    section: Merged,
    source: Option<Box<Profile>>,
    /// The section `sso-session`.
    session: Option<Merged>,
}

/// Why a profile cannot be loaded.
pub(super) enum LoadError {
    /// It is in no file.
    Absent(String),
    /// Something about it is wrong.
    Invalid(String),
}

impl Profile {
    /// Finds a profile and the profiles that it leans on.
    pub(super) fn load(name: &str, files: &SharedFiles) -> Result<Self, LoadError> {
        Self::visit(name, files, &mut Vec::new())
    }

    /// One that says nothing.
    pub(super) fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            section: Merged::empty(),
            source: None,
            session: None,
        }
    }

    fn visit(
        name: &str,
        files: &SharedFiles,
        visited: &mut Vec<String>,
    ) -> Result<Self, LoadError> {
        let Some(section) = files.section(name) else {
            return Err(LoadError::Absent(name.to_owned()));
        };
        let mut profile = Self {
            section: section.clone(),
            ..Self::empty(name)
        };
        let invalid = |reason: String| Err(LoadError::Invalid(reason));
        if section.has_half_a_pair {
            return invalid(format!(
                "error fetching config from profile, {name}, Error using profile: \n 1, partial \
                 credentials found for profile {name}\n"
            ));
        }
        let is_first = visited.is_empty();
        if !visited.iter().any(|it| it == name) {
            visited.push(name.to_owned());
            let needs_role = [
                "source_profile",
                "credential_source",
                "web_identity_token_file",
            ];
            let key = needs_role.into_iter().find(|key| profile.has(key));
            if let Some(key) = key.filter(|_| !profile.has("role_arn")) {
                return invalid(format!(
                    "credential type {key} requires role_arn, profile {name}"
                ));
            }
        } else {
            profile.section.forget(ROLE_KEYS);
        }
        if !is_first && profile.section.has_keys() {
            return Ok(profile);
        }
        let exclusive = [
            "source_profile",
            "credential_source",
            "credential_process",
            "web_identity_token_file",
        ];
        if exclusive.iter().filter(|key| profile.has(key)).count() > 1 {
            return invalid(
                "only one credential type may be specified per profile: source profile, \
                 credential source, credential process, web identity token"
                    .to_owned(),
            );
        }
        if let Some(source) = profile.text("source_profile").map(str::to_owned) {
            profile.section.forget(CREDENTIAL_KEYS);
            let role = profile.text("role_arn").unwrap_or_default();
            let failed = |why: &str| {
                let failed = "failed to load assume role";
                LoadError::Invalid(format!("{failed} {role}, of profile {source}, {why}"))
            };
            let loaded = Self::visit(&source, files, visited).map_err(|error| match error {
                LoadError::Absent(name) => failed(&absent(&name)),
                LoadError::Invalid(_) => error,
            })?;
            if !loaded.has_credentials() {
                return Err(failed("<nil>"));
            }
            profile.source = Some(Box::new(loaded));
        }
        if let Some(session) = profile.text("sso_session") {
            match files.section(&format!("sso-session {}", session.trim())) {
                Some(section) => profile.session = Some(section.clone()),
                None => {
                    return invalid(format!("failed to find SSO session section, {session}"));
                }
            }
        }
        Ok(profile)
    }

    /// The one source that the profile names; the machine's own when it names none.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn resolve(
        &self,
        environment: &dyn Environment,
        imds: &ImdsArguments,
        locate: Locate<'_>,
    ) -> Result<Source, String> {
        let source = if let Some(source) = &self.source {
            source.resolve(environment, imds, locate)?
        } else if let Some(keys) = self.keys() {
            let name = self.name.clone();
            Source::Profile { name, keys }
        } else if let Some(place) = self.text("credential_source") {
            credential_source(place, environment, imds)?
        } else if let Some(path) = self.text("web_identity_token_file") {
            return Ok(Source::WebIdentity(WebIdentityArguments {
                role_arn: self.owned("role_arn").unwrap_or_default(),
                duration_seconds: None,
                policy: None,
                policy_arns: Vec::new(),
                session_name: self.owned("role_session_name"),
                token: Token::File(path.to_owned()),
                profile: Some(self.name.clone()),
            }));
        } else if self.has_sso() {
            Source::Sso(self.sso(environment, locate)?)
        } else if self.has("login_session") {
            return Err(format!(
                "profile \"{}\" has login_session (credentials of \"aws login\"), which is not supported. \
                 \"aws configure export-credentials --profile {0} --format env\" prints them for the \
                 environment; a role, IAM Identity Center or credential_process works without it",
                self.name
            ));
        } else if let Some(command) = self.text("credential_process") {
            Source::Process(ProcessArguments {
                profile: self.name.clone(),
                command: Secret::new(command.to_owned()),
                origin: self.section.process_origin,
            })
        } else {
            match chain::container(environment) {
                Some(container) => Source::Container(container),
                None => Source::Imds(imds.clone()),
            }
        };
        self.with_role(source)
    }

    /// The role on top of a source, if the profile has one.
    fn with_role(&self, source: Source) -> Result<Source, String> {
        let Some(role_arn) = self.owned("role_arn") else {
            return Ok(source);
        };
        if self.has("mfa_serial") {
            return Err(format!(
                "profile \"{}\" has mfa_serial: assume role with MFA enabled, but \
                 AssumeRoleTokenProvider session option not set. Nobody is asked for a code here: get \
                 a session with another tool and pass it on in the environment",
                self.name
            ));
        }
        Ok(Source::AssumeRole {
            from: Box::new(source),
            role: RoleArguments {
                role_arn,
                duration_seconds: self.duration(),
                external_id: self.owned("external_id"),
                session_name: self.owned("role_session_name"),
                profile: Some(self.name.clone()),
                ..RoleArguments::default()
            },
        })
    }

    /// Only whole minutes above a quarter of an hour count.
    fn duration(&self) -> u32 {
        let seconds = self.text("duration_seconds").and_then(integer);
        let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
        match seconds {
            Some(seconds) if seconds / 60 > 15 => seconds,
            _ => USUAL_DURATION,
        }
    }

    fn keys(&self) -> Option<StaticKeys> {
        Some(StaticKeys {
            key: AccessKey {
                id: self.owned(KEY_ID)?,
                secret: Secret::new(self.owned(SECRET_KEY)?),
                session_token: self.owned(SESSION_TOKEN).map(Secret::new),
            },
            account_id: self.owned("aws_account_id"),
        })
    }

    fn has_sso(&self) -> bool {
        self.has("sso_session") || SSO_KEYS.iter().any(|key| self.has(key))
    }

    fn sso(
        &self,
        environment: &dyn Environment,
        locate: Locate<'_>,
    ) -> Result<SsoArguments, String> {
        // With a session, region and start URL are the session's; the rest is not looked at before it is used.
        let (holder, required) = match &self.session {
            Some(session) => (session, &SSO_KEYS[..2]),
            None => (&self.section, &SSO_KEYS[..]),
        };
        let missing: Vec<_> = required
            .iter()
            .filter(|key| holder.text(key).is_none())
            .copied()
            .collect();
        if !missing.is_empty() {
            return Err(format!(
                "profile \"{}\" is configured to use SSO but is missing required configuration: {}",
                self.name,
                missing.join(", ")
            ));
        }
        if self.session.is_some() {
            for key in required {
                if self
                    .text(key)
                    .is_some_and(|own| holder.text(key) != Some(own))
                {
                    return Err(format!(
                        "{key} in profile \"{}\" must match {key} in sso-session ",
                        self.name
                    ));
                }
            }
        }
        let of = |holder: &Merged, key: &str| holder.text(key).unwrap_or_default().to_owned();
        let region = of(holder, "sso_region");
        let Some(home) = paths::home(environment) else {
            return Err(format!(
                "profile \"{}\" uses SSO, whose tokens are in the home directory, but the \
                 environment variable HOME is not set",
                self.name
            ));
        };
        Ok(SsoArguments {
            profile: self.name.clone(),
            session: self.owned("sso_session"),
            start_url: of(holder, "sso_start_url"),
            account_id: of(&self.section, "sso_account_id"),
            role_name: of(&self.section, "sso_role_name"),
            cache_directory: format!("{home}/.aws/sso/cache"),
            portal: locate(Service::SsoPortal, &region)?,
            oidc: locate(Service::Oidc, &region)?.value,
        })
    }

    fn has_credentials(&self) -> bool {
        let sources = [
            "source_profile",
            "credential_source",
            "credential_process",
            "web_identity_token_file",
        ];
        sources.iter().any(|key| self.has(key)) || self.has_sso() || self.section.has_keys()
    }

    fn has(&self, key: &str) -> bool {
        self.text(key).is_some()
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.section.text(key)
    }

    fn owned(&self, key: &str) -> Option<String> {
        self.text(key).map(str::to_owned)
    }
}

/// That a profile is in no file.
pub(super) fn absent(name: &str) -> String {
    format!("failed to get shared config profile, {name}")
}

fn credential_source(
    place: &str,
    environment: &dyn Environment,
    imds: &ImdsArguments,
) -> Result<Source, String> {
    match place {
        "Ec2InstanceMetadata" => Ok(Source::Imds(imds.clone())),
        "Environment" => match chain::environment_keys(environment) {
            Some(keys) => Ok(keys),
            None => Err(
                "static credentials are empty: credential_source is Environment, but \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set"
                    .to_owned(),
            ),
        },
        "EcsContainer" => match chain::container(environment) {
            Some(container) => Ok(Source::Container(container)),
            None => Err(
                "EcsContainer was specified as the credential_source, but neither \
                 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI' or \
                 AWS_CONTAINER_CREDENTIALS_FULL_URI' was set"
                    .to_owned(),
            ),
        },
        _ => Err(
            "credential_source values must be EcsContainer, Ec2InstanceMetadata, or Environment"
                .to_owned(),
        ),
    }
}

/// A whole number as Go reads one without a given base: `16`, `0x10`, `0o20`, `020`, `0b1_0000`.
pub(super) fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) if text.starts_with('-') => (-1, digits),
        Some(digits) => (1, digits),
        None => (1, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let digits = if base == 10 {
        digits.to_owned()
    } else {
        digits.replace('_', "")
    };
    // The sign is gone, and another one must not follow.
    if digits.starts_with(['-', '+']) {
        return None;
    }
    i64::from_str_radix(&digits, base).ok()?.checked_mul(sign)
}
