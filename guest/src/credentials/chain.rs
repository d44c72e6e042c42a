//! Which source of credentials it is: exactly one, chosen up front, in Terraform's order.
//!
//! AWS's SDKs try one source after the other until one works. Terraform chooses and then fails; falling through to the
//! next one would write a state with somebody else's rights.

use std::fmt;

use crate::config::{Asked, Custom, Environment, Service, ServiceLocation, Sourced, Variant};
use crate::platform::{AccessKey, Surroundings};
use crate::secret::Secret;

use super::files::{FileArguments, Merged, SharedFiles, set};
use super::profile::{self, LoadError, Profile};
use super::session;
use super::{
    ContainerAddress, ContainerArguments, ImdsArguments, RoleArguments, Source, SsoArguments,
    StaticKeys, Token, WebIdentityArguments,
};

/// What the block says of credentials, checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arguments {
    /// `access_key`, `secret_key`, `token`.
    pub(crate) keys: Option<StaticKeys>,
    pub(crate) profile: Option<String>,
    pub(crate) files: FileArguments,
    pub(crate) assume_role: Option<RoleArguments>,
    /// `assume_role_with_web_identity`, completed by the environment.
    pub(crate) web_identity: Option<WebIdentityArguments>,
    pub(crate) use_legacy_workflow: bool,
    /// `ec2_metadata_service_endpoint`: a URL.
    pub(crate) imds_endpoint: Option<String>,
    /// `ec2_metadata_service_endpoint_mode`.
    pub(crate) imds_mode: Option<ImdsMode>,
    pub(crate) skip_metadata_api_check: Option<bool>,
    /// `endpoints.sso`: a URL in the form of settings.
    pub(crate) sso_endpoint: Option<String>,
    pub(crate) variant: Asked,
}

/// By which protocol the metadata service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImdsMode {
    /// 169.254.169.254.
    Ipv4,
    /// fd00:ec2::254.
    Ipv6,
}

impl ImdsMode {
    /// As the environment and profiles spell it, in any case.
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "ipv4" => Ok(Self::Ipv4),
            "ipv6" => Ok(Self::Ipv6),
            _ => Err("unknown EC2 IMDS endpoint mode, must be either IPv6 or IPv4".to_owned()),
        }
    }

    fn endpoint(self) -> &'static str {
        match self {
            Self::Ipv4 => "http://169.254.169.254",
            Self::Ipv6 => "http://[fd00:ec2::254]",
        }
    }
}

/// The source that was chosen, why not another one, and what the profile says besides.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Without the role of the block.
    pub(crate) base: Source,
    pub(crate) passed_over: Vec<PassedOver>,
    /// The files that were looked at, and what became of them.
    pub(crate) looked_at: Vec<String>,
    pub(crate) settings: ProfileSettings,
    /// A profile was named although the environment has keys.
    pub(crate) profile_beats_environment: bool,
}

/// A source of credentials that was there and was not chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PassedOver {
    /// Such as `environment AWS_ACCESS_KEY_ID`.
    pub(crate) source: String,
    pub(crate) reason: &'static str,
}

/// What a profile says besides where credentials come from.
pub(crate) struct ProfileSettings {
    pub(crate) name: String,
    section: Merged,
    services: Option<Merged>,
}

impl ProfileSettings {
    /// A setting.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.section.text(key)
    }

    /// A setting that is `true` or `false`, in any case; anything else is false.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        Some(self.text(key)?.eq_ignore_ascii_case("true"))
    }

    /// A number.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn number(&self, key: &str) -> Result<Option<i64>, String> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        profile::integer(text).map(Some).ok_or_else(|| {
            format!(
                "failed to load {key} from shared config, invalid value {key}={text}, expect integer"
            )
        })
    }

    /// Which endpoints of AWS's are wanted, where block and environment leave it open.
    pub(crate) fn variant(&self, asked: Asked) -> Variant {
        let flag = |asked: Option<bool>, key| asked.or_else(|| self.flag(key)).unwrap_or(false);
        Variant {
            fips: flag(asked.fips, "use_fips_endpoint"),
            dualstack: flag(asked.dualstack, "use_dualstack_endpoint"),
        }
    }

    /// The endpoint of a service, known by its id (`s3`, `sso_oidc`), and where it stands. Not checked.
    pub(crate) fn endpoint(&self, service: &str) -> Option<(&str, String)> {
        if self.flag("ignore_configured_endpoint_urls") == Some(true) {
            return None;
        }
        let nested = self
            .services
            .as_ref()
            .and_then(|it| it.properties.get(service));
        let nested = nested.and_then(|it| it.nested.get("endpoint_url"));
        let name = &self.name;
        match nested.filter(|url| !url.is_empty()) {
            Some(url) => Some((url, format!("services section of profile {name}"))),
            None => Some((self.text("endpoint_url")?, format!("profile {name}"))),
        }
    }
}

impl fmt::Debug for ProfileSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ProfileSettings({})", self.name)
    }
}

/// Why there is no plan.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PlanError {
    /// What is wrong, without a stop at its end.
    pub(crate) reason: String,
    pub(crate) passed_over: Vec<PassedOver>,
    /// The files that were looked at, and what became of them.
    pub(crate) looked_at: Vec<String>,
}

impl PlanError {
    /// Nobody asked for a plan.
    pub(crate) fn not_made() -> Self {
        Self {
            reason: "the shared files were not read".to_owned(),
            passed_over: Vec::new(),
            looked_at: Vec::new(),
        }
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)?;
        formatter.write_str(&session::others(&self.passed_over, &self.looked_at))
    }
}

/// Chooses. Reads variables and files; touches no network.
///
/// # Errors
/// The shared files or the environment make no sense, or the profile that was named is in no file.
pub(crate) fn plan(
    arguments: &Arguments,
    surroundings: &dyn Surroundings,
) -> Result<Plan, PlanError> {
    let mut chooser = Chooser {
        arguments,
        surroundings,
        passed_over: Vec::new(),
        looked_at: Vec::new(),
    };
    let chosen = chooser.choose();
    let (passed_over, looked_at) = (chooser.passed_over, chooser.looked_at);
    match chosen {
        Ok((base, settings)) => Ok(Plan {
            base,
            profile_beats_environment: arguments.keys.is_none()
                && named_profile(arguments, surroundings).is_some()
                && has_standard_keys(surroundings),
            passed_over,
            looked_at,
            settings,
        }),
        Err(reason) => Err(PlanError {
            reason,
            passed_over,
            looked_at,
        }),
    }
}

struct Chooser<'a> {
    arguments: &'a Arguments,
    surroundings: &'a dyn Surroundings,
    passed_over: Vec<PassedOver>,
    looked_at: Vec<String>,
}

impl Chooser<'_> {
    fn choose(&mut self) -> Result<(Source, ProfileSettings), String> {
        let arguments = self.arguments;
        let loaded = self.load();
        let (profile, settings) = match (&arguments.keys, loaded) {
            (_, Ok(loaded)) => loaded,
            (None, Err(reason)) => return Err(reason),
            (Some(_), Err(reason)) => return Err(format!("loading configuration: {reason}")),
        };
        let imds = self.imds(&settings)?;
        if let Some(keys) = &arguments.keys {
            let reason = "the block's own keys come first";
            self.pass_over_block_sources(reason);
            self.pass_over_environment(reason);
            return Ok((Source::Static(keys.clone()), settings));
        }
        let named = named_profile(arguments, self.surroundings);
        if arguments.profile.is_some() && named.is_none() {
            self.pass_over(
                "argument profile",
                "use_legacy_workflow is true and the environment has keys",
            );
        }
        let locate = |service: Service, region: &str| self.location(service, region, &settings);
        let resolve = || profile.resolve(self.surroundings, &imds, &locate);
        let found = if named.is_some() {
            let source = resolve()?;
            self.pass_over_environment("the argument profile comes first");
            source
        } else if let Some(keys) = environment_keys(self.surroundings) {
            let reason = "keys in the environment come first";
            self.pass_over_token_file(reason);
            self.pass_over_environment_profile(reason);
            keys
        } else if let Some(path) = set(self.surroundings, "AWS_WEB_IDENTITY_TOKEN_FILE") {
            let Some(role_arn) = set(self.surroundings, "AWS_ROLE_ARN") else {
                return Err(
                    "role ARN is not set: AWS_WEB_IDENTITY_TOKEN_FILE needs AWS_ROLE_ARN"
                        .to_owned(),
                );
            };
            self.pass_over_half_a_pair();
            self.pass_over_environment_profile("AWS_WEB_IDENTITY_TOKEN_FILE comes first");
            Source::WebIdentity(WebIdentityArguments {
                role_arn,
                duration_seconds: None,
                policy: None,
                policy_arns: Vec::new(),
                session_name: set(self.surroundings, "AWS_ROLE_SESSION_NAME"),
                token: Token::File(path),
                profile: None,
            })
        } else {
            let source = resolve()?;
            self.pass_over_half_a_pair();
            source
        };
        let source = match &arguments.web_identity {
            Some(web_identity) => {
                self.passed_over.insert(
                    0,
                    PassedOver {
                        source: found.to_string(),
                        reason: "assume_role_with_web_identity takes its place",
                    },
                );
                Source::WebIdentity(web_identity.clone())
            }
            None => found,
        };
        Ok((source, settings))
    }

    /// The profile that counts, and its settings. One that nobody named may be missing.
    fn load(&mut self) -> Result<(Profile, ProfileSettings), String> {
        let files = SharedFiles::load(&self.arguments.files, self.surroundings)?;
        self.looked_at = files.looked_at.iter().map(ToString::to_string).collect();
        let asked_for = named_profile(self.arguments, self.surroundings)
            .or_else(|| set(self.surroundings, "AWS_PROFILE"));
        let name = asked_for
            .clone()
            .or_else(|| set(self.surroundings, "AWS_DEFAULT_PROFILE"))
            .unwrap_or_else(|| "default".to_owned());
        let profile = match Profile::load(&name, &files) {
            Ok(profile) => profile,
            Err(LoadError::Absent(_)) if asked_for.is_none() => Profile::empty(&name),
            Err(LoadError::Absent(name)) => return Err(profile::absent(&name)),
            Err(LoadError::Invalid(reason)) => return Err(reason),
        };
        let section = files.section(&name).cloned().unwrap_or_else(Merged::empty);
        let services = section
            .text("services")
            .and_then(|services| files.section(&format!("services {services}")))
            .cloned();
        let settings = ProfileSettings {
            name,
            section,
            services,
        };
        Ok((profile, settings))
    }

    fn imds(&self, settings: &ProfileSettings) -> Result<ImdsArguments, String> {
        let (arguments, environment) = (self.arguments, self.surroundings);
        let mode = match arguments.imds_mode {
            Some(mode) => mode,
            None => set(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
                .or_else(|| {
                    let mode = settings.text("ec2_metadata_service_endpoint_mode");
                    mode.map(str::to_owned)
                })
                .map_or(Ok(ImdsMode::Ipv4), |mode| ImdsMode::parse(&mode))?,
        };
        let endpoint = arguments
            .imds_endpoint
            .clone()
            .or_else(|| set(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT"))
            .or_else(|| set(environment, "AWS_METADATA_URL"))
            .or_else(|| {
                let endpoint = settings.text("ec2_metadata_service_endpoint");
                endpoint.map(str::to_owned)
            })
            .unwrap_or_else(|| mode.endpoint().to_owned());
        let is_disabled = match arguments.skip_metadata_api_check {
            Some(skip) => skip,
            None => flag(environment, "AWS_EC2_METADATA_DISABLED", TRUE_OR_FALSE)?.unwrap_or(false),
        };
        Ok(ImdsArguments {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            is_disabled,
            is_v1_disabled: flag(environment, "AWS_EC2_METADATA_V1_DISABLED", TRUE_OR_FALSE)?
                .or_else(|| settings.flag("ec2_metadata_v1_disabled"))
                .unwrap_or(false),
        })
    }

    /// Where a service of IAM Identity Center is. The argument is for its portal only.
    fn location(
        &self,
        service: Service,
        region: &str,
        settings: &ProfileSettings,
    ) -> Result<Sourced<ServiceLocation>, String> {
        let environment = self.surroundings;
        let is_ignored = flag(
            environment,
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
            TRUE_OR_FALSE,
        )? == Some(true)
            || settings.flag("ignore_configured_endpoint_urls") == Some(true);
        let named = |name| Some(Sourced::environment(name, set(environment, name)?));
        let shared = |name| named(name).filter(|_| !is_ignored);
        // Of the two variables, Terraform itself looks at the portal's only; the other one is the SDK's affair.
        let own = match service {
            Service::SsoPortal => (self.arguments.sso_endpoint.clone())
                .map(|url| Sourced::argument("endpoints.sso", url))
                .or_else(|| named("AWS_ENDPOINT_URL_SSO")),
            _ => None,
        };
        let is_shared = own.is_none();
        let configured = own
            .or_else(|| match service {
                Service::Oidc => shared("AWS_ENDPOINT_URL_SSO_OIDC"),
                _ => None,
            })
            .or_else(|| shared("AWS_ENDPOINT_URL"))
            .or_else(|| {
                let (url, source) = settings.endpoint(service.name()).filter(|_| !is_ignored)?;
                let value = url.to_owned();
                Some(Sourced { value, source })
            });
        let custom = configured.as_ref().map(|it| Custom {
            url: &it.value,
            is_shared,
        });
        let value = service.locate(region, settings.variant(self.arguments.variant), custom)?;
        let source = configured.map_or_else(|| "default".to_owned(), |it| it.source);
        Ok(Sourced { value, source })
    }

    fn pass_over(&mut self, source: impl Into<String>, reason: &'static str) {
        self.passed_over.push(PassedOver {
            source: source.into(),
            reason,
        });
    }

    fn pass_over_block_sources(&mut self, reason: &'static str) {
        let arguments = self.arguments;
        if arguments.web_identity.is_some() {
            self.pass_over("argument assume_role_with_web_identity", reason);
        }
        if arguments.profile.is_some() {
            self.pass_over("argument profile", reason);
        }
    }

    /// All that the environment has.
    fn pass_over_environment(&mut self, reason: &'static str) {
        for names in [KEY_IDS, SECRETS] {
            let is_set = |name: &&&str| set(self.surroundings, name).is_some();
            if let Some(name) = names.iter().find(is_set) {
                self.pass_over(format!("environment {name}"), reason);
                break;
            }
        }
        self.pass_over_token_file(reason);
        self.pass_over_environment_profile(reason);
    }

    fn pass_over_token_file(&mut self, reason: &'static str) {
        let name = "AWS_WEB_IDENTITY_TOKEN_FILE";
        if set(self.surroundings, name).is_some() {
            self.pass_over(format!("environment {name}"), reason);
        }
    }

    fn pass_over_environment_profile(&mut self, reason: &'static str) {
        for name in ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"] {
            if set(self.surroundings, name).is_some() {
                self.pass_over(format!("environment {name}"), reason);
                break;
            }
        }
    }

    fn pass_over_half_a_pair(&mut self) {
        for (names, reason) in [
            (KEY_IDS, "AWS_SECRET_ACCESS_KEY is not set"),
            (SECRETS, "AWS_ACCESS_KEY_ID is not set"),
        ] {
            let is_set = |name: &&&str| set(self.surroundings, name).is_some();
            if let Some(name) = names.iter().find(is_set) {
                self.pass_over(format!("environment {name}"), reason);
            }
        }
    }
}

/// How the SDK words most choices between the two.
pub(crate) const TRUE_OR_FALSE: &str = "true or false";

const KEY_IDS: &[&str] = &["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"];
const SECRETS: &[&str] = &["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"];

/// Keys in the environment. Half a pair counts as none.
pub(super) fn environment_keys(environment: &dyn Environment) -> Option<Source> {
    let value = |name: &&'static str| Some((*name, set(environment, name)?));
    let (variable, id) = KEY_IDS.iter().find_map(value)?;
    let (_, secret) = SECRETS.iter().find_map(value)?;
    Some(Source::Environment {
        variable,
        keys: StaticKeys {
            key: AccessKey {
                id,
                secret: Secret::new(secret),
                session_token: set(environment, "AWS_SESSION_TOKEN").map(Secret::new),
            },
            account_id: set(environment, "AWS_ACCOUNT_ID"),
        },
    })
}

/// What ECS or EKS put into the environment.
pub(super) fn container(environment: &dyn Environment) -> Option<ContainerArguments> {
    let relative = set(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let address = match relative {
        Some(path) => ContainerAddress::Relative(path),
        None => ContainerAddress::Full(set(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI")?),
    };
    Some(ContainerArguments {
        address,
        token: set(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
        token_file: set(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    })
}

/// The argument `profile`, unless the older order lets the environment's keys win.
fn named_profile(arguments: &Arguments, environment: &dyn Environment) -> Option<String> {
    let is_dropped = arguments.use_legacy_workflow && has_standard_keys(environment);
    arguments.profile.clone().filter(|_| !is_dropped)
}

/// The keys under their own names; the older names do not count here.
fn has_standard_keys(environment: &dyn Environment) -> bool {
    let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    names.iter().all(|name| set(environment, name).is_some())
}

/// A variable that must be `true` or `false`. The SDK words the choice in two ways.
pub(crate) fn flag(
    environment: &dyn Environment,
    name: &str,
    choice: &str,
) -> Result<Option<bool>, String> {
    let Some(value) = set(environment, name) else {
        return Ok(None);
    };
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        _ => Err(format!(
            "invalid value for environment variable, {name}={}, need {choice}",
            value.escape_debug()
        )),
    }
}

/// A source as people are told of it.
impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::AssumeRole { from, role } => {
                write!(formatter, "role {} assumed with {from}", role.role_arn)
            }
            Source::Container(container) => match container.address {
                ContainerAddress::Full(_) => {
                    formatter.write_str("environment AWS_CONTAINER_CREDENTIALS_FULL_URI")
                }
                ContainerAddress::Relative(_) => {
                    formatter.write_str("environment AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
                }
            },
            Source::Environment { variable, .. } => write!(formatter, "environment {variable}"),
            Source::HostGiven => formatter.write_str("host"),
            Source::Imds(_) => formatter.write_str("EC2 instance metadata service"),
            Source::Process(process) => {
                write!(
                    formatter,
                    "credential_process of profile {}",
                    process.profile
                )
            }
            Source::Profile { name, .. } => write!(formatter, "keys of profile {name}"),
            Source::Sso(sso) => {
                write!(formatter, "IAM Identity Center by profile {}", sso.profile)
            }
            Source::Static(_) => formatter.write_str("argument access_key"),
            Source::WebIdentity(role) => {
                write!(
                    formatter,
                    "role {} assumed with a web identity token",
                    role.role_arn
                )
            }
        }
    }
}

impl Source {
    /// The role of the block on top of it, if there is one.
    pub(crate) fn with_role(self, role: Option<&RoleArguments>) -> Self {
        match role {
            Some(role) => Source::AssumeRole {
                from: Box::new(self),
                role: role.clone(),
            },
            None => self,
        }
    }

    /// The profile that it comes from, the outermost one.
    pub(crate) fn profile(&self) -> Option<&str> {
        match self {
            Source::AssumeRole { from, role } => role.profile.as_deref().or(from.profile()),
            Source::Process(process) => Some(&process.profile),
            Source::Profile { name, .. } => Some(name),
            Source::Sso(sso) => Some(&sso.profile),
            Source::WebIdentity(role) => role.profile.as_deref(),
            Source::Container(_)
            | Source::Environment { .. }
            | Source::HostGiven
            | Source::Imds(_)
            | Source::Static(_) => None,
        }
    }

    /// The access key id, where no call is needed to know it. No secret.
    pub(crate) fn access_key_id(&self) -> Option<&str> {
        match self {
            Source::Environment { keys, .. }
            | Source::Profile { keys, .. }
            | Source::Static(keys) => Some(&keys.key.id),
            _ => None,
        }
    }

    /// What is asked of IAM Identity Center, anywhere below the roles.
    pub(crate) fn sso(&self) -> Option<&SsoArguments> {
        match self {
            Source::AssumeRole { from, .. } => from.sso(),
            Source::Sso(sso) => Some(sso),
            _ => None,
        }
    }

    /// The metadata service, when the credentials are an instance's.
    pub(crate) fn instance(&self) -> Option<&ImdsArguments> {
        match self {
            Source::Imds(arguments) => Some(arguments),
            _ => None,
        }
    }
}
