//! Credentials over the time of a store: fetched when needed, kept while good, renewed when not, checked once.
//!
//! An apply outlives the credentials of a role. Without renewal, the state of what it did could not be written at its end.
//! Without the check of the account, it would be written into somebody else's.
//!
//! What one instance of a store fetched and checked, the others take over where the host shares it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::aws::sign::SigningKeys;
use crate::platform::{AccessKey, Platform};

use super::chain::{PassedOver, Plan, PlanError};
use super::{
    Credentials, ProviderError, Providers, RoleArguments, Source, StaticKeys, imds, process, shared,
};

/// Containers' credentials are renewed so long before their end. Seconds. All others last to their end.
const CONTAINER_WINDOW: u64 = 300;

/// How often credentials of other instances are looked at. Each look finds others than the last, or that there are none.
const SHARED_READS: u32 = 3;

/// What must hold of the credentials before they are used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    /// `allowed_account_ids`. Empty: any.
    pub(crate) allowed_accounts: Vec<String>,
    /// `forbidden_account_ids`.
    pub(crate) forbidden_accounts: Vec<String>,
    pub(crate) skip_credentials_validation: bool,
    pub(crate) skip_requesting_account_id: bool,
}

/// The credentials of one store.
#[derive(Debug)]
pub(crate) struct Session {
    plan: Result<Plan, PlanError>,
    /// The role of the block, on top of whatever source.
    role: Option<RoleArguments>,
    checks: Checks,
    /// Held while credentials are fetched: one refresh at a time.
    kept: Mutex<Kept>,
    signing_keys: SigningKeys,
}

#[derive(Debug, Default)]
struct Kept {
    /// The outermost role's first, then what it is assumed with, and so on.
    layers: Vec<Option<Credentials>>,
    is_checked: bool,
}

/// How to reach the outside, for the time of one call.
#[derive(Clone, Copy)]
pub(crate) struct Outside<'a> {
    pub(crate) platform: &'a dyn Platform,
    pub(crate) providers: &'a dyn Providers,
}

impl Session {
    /// A plan that failed matters only once the host lends nothing.
    pub(crate) fn new(
        plan: Result<Plan, PlanError>,
        role: Option<RoleArguments>,
        checks: Checks,
    ) -> Self {
        Self {
            plan,
            role,
            checks,
            kept: Mutex::default(),
            signing_keys: SigningKeys::default(),
        }
    }

    /// The plan, and the role on top of it.
    pub(crate) fn parts(&self) -> (&Result<Plan, PlanError>, Option<&RoleArguments>) {
        (&self.plan, self.role.as_ref())
    }

    /// `allowed_account_ids`.
    pub(crate) fn allowed_accounts(&self) -> &[String] {
        &self.checks.allowed_accounts
    }

    /// What was derived from the credentials.
    pub(crate) fn signing_keys(&self) -> &SigningKeys {
        &self.signing_keys
    }

    /// Credentials that are good now, of an account to work in.
    ///
    /// # Errors
    /// Which source was chosen, why it failed, and what was passed over.
    pub(crate) fn credentials(&self, outside: Outside<'_>) -> Result<Credentials, ProviderError> {
        let mut kept = self.kept();
        self.good(outside, &mut kept, None)
    }

    /// Others, after a service refused these as expired. None: there are no others.
    ///
    /// # Errors
    /// As [`Self::credentials`].
    pub(crate) fn renewed(
        &self,
        refused: &AccessKey,
        outside: Outside<'_>,
    ) -> Result<Option<Credentials>, ProviderError> {
        let mut kept = self.kept();
        let fresh = self.good(outside, &mut kept, Some(refused))?;
        Ok(Some(fresh).filter(|fresh| !is_same(&fresh.key, refused)))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this instance has, else what another one has, else fresh ones; never those that were refused, unless there
    /// are no others.
    fn good(
        &self,
        outside: Outside<'_>,
        kept: &mut Kept,
        refused: Option<&AccessKey>,
    ) -> Result<Credentials, ProviderError> {
        let is_refused = |it: &Credentials| refused.is_some_and(|key| is_same(key, &it.key));
        let at_hand = |kept: &Kept| {
            let found = kept.is_checked.then(|| self.at_hand(outside, kept));
            found.flatten().filter(|it| !is_refused(it))
        };
        if let Some(credentials) = at_hand(kept) {
            return Ok(credentials);
        }
        if !(kept.is_checked && self.is_fixed()) {
            for _ in 0..SHARED_READS {
                let Some(layers) = shared::read(outside.platform) else {
                    break;
                };
                (kept.layers, kept.is_checked) = (layers, true);
                match at_hand(kept) {
                    Some(credentials) => return Ok(credentials),
                    None => shared::discard(outside.platform),
                }
            }
        }
        if refused.is_some() {
            kept.layers.clear();
        }
        let credentials = self.fetch(outside, kept)?;
        shared::offer(outside.platform, &kept.layers);
        Ok(credentials)
    }

    /// Keys that nobody has to be asked for, and that are never others.
    fn is_fixed(&self) -> bool {
        let plan = self.plan.as_ref().ok();
        self.role.is_none() && plan.is_some_and(|plan| plan.base.keys().is_some())
    }

    /// What can be used without asking any service.
    fn at_hand(&self, outside: Outside<'_>, kept: &Kept) -> Option<Credentials> {
        let mut window = 0;
        if self.role.is_none() {
            if let Some(lent) = outside.platform.credentials() {
                return Some(lent);
            }
            let base = &self.plan.as_ref().ok()?.base;
            if let Some(keys) = base.keys() {
                return Some(keys.credentials());
            }
            window = base.window();
        }
        let outermost = kept.layers.first()?.as_ref()?;
        is_good(outermost, outside, window).then(|| outermost.clone())
    }

    fn fetch(&self, outside: Outside<'_>, kept: &mut Kept) -> Result<Credentials, ProviderError> {
        let mut fetcher = Fetcher {
            session: self,
            outside,
            layers: &mut kept.layers,
            is_lent: false,
        };
        let fetched = fetcher.outermost();
        let is_lent = fetcher.is_lent;
        let credentials = fetched.map_err(|error| match is_lent {
            true => lent(error),
            false => self.explained(error),
        })?;
        if !kept.is_checked {
            if let Err(error) = self.check(outside, &credentials, is_lent) {
                kept.layers.clear();
                return Err(error);
            }
            kept.is_checked = true;
        }
        Ok(credentials)
    }

    /// Whoever lends credentials answers for them; the lists of accounts hold for them too.
    fn check(
        &self,
        Outside { providers, .. }: Outside<'_>,
        credentials: &Credentials,
        is_lent: bool,
    ) -> Result<(), ProviderError> {
        let checks = &self.checks;
        let has_lists =
            !(checks.allowed_accounts.is_empty() && checks.forbidden_accounts.is_empty());
        let identity = if !checks.skip_credentials_validation && (has_lists || !is_lent) {
            let identity = providers.caller_identity(credentials);
            Some(identity.map_err(|error| error.behind("validating provider credentials"))?)
        } else if has_lists && !checks.skip_requesting_account_id {
            let plan = self.plan.as_ref().ok();
            let instance = plan.filter(|_| !is_lent && self.role.is_none());
            let instance = instance.and_then(|plan| plan.base.instance());
            let identity = providers.account(credentials, instance);
            Some(identity.map_err(|error| error.behind("Retrieving AWS account details"))?)
        } else {
            None
        };
        let account = identity
            .as_ref()
            .map_or("", |identity| account_of(&identity.arn));
        let is_in = |accounts: &[String]| accounts.iter().any(|it| it == account);
        let is_allowed = checks.allowed_accounts.is_empty() || is_in(&checks.allowed_accounts);
        if is_allowed && !is_in(&checks.forbidden_accounts) {
            return Ok(());
        }
        let mut message = format!("Invalid account ID: AWS account ID not allowed: {account}");
        if identity.is_none() {
            message.push_str(
                " (skip_credentials_validation and skip_requesting_account_id leave it unknown)",
            );
        }
        Err(ProviderError::new(message))
    }

    /// Says beside what went wrong which source it was, and what else was there.
    fn explained(&self, mut error: ProviderError) -> ProviderError {
        let Ok(plan) = &self.plan else {
            return error;
        };
        if plan.profile_beats_environment {
            error = error.behind(
                "A Profile was specified along with the environment variables \
                 \"AWS_ACCESS_KEY_ID\" and \"AWS_SECRET_ACCESS_KEY\". The Profile is now used \
                 instead of the environment variable credentials",
            );
        }
        error.message.push_str(&format!(". Chosen: {}", plan.base));
        if matches!(plan.base, Source::Imds(_)) {
            error.message.push_str(
                ", as nothing else is there: no access_key, profile or \
                 assume_role_with_web_identity in the block, no AWS_ACCESS_KEY_ID with \
                 AWS_SECRET_ACCESS_KEY, AWS_WEB_IDENTITY_TOKEN_FILE or \
                 AWS_CONTAINER_CREDENTIALS_RELATIVE_URI in the environment, no credentials in the \
                 profile",
            );
        }
        error
            .message
            .push_str(&others(&plan.passed_over, &plan.looked_at));
        error
    }
}

/// Says that the role was assumed with what the host lends: nothing else was looked at.
fn lent(mut error: ProviderError) -> ProviderError {
    error.message.push_str(". Chosen: the host's credentials");
    error
}

/// What was passed over and looked at, as sentences behind a text without a stop.
pub(crate) fn others(passed_over: &[PassedOver], looked_at: &[String]) -> String {
    let mut text = String::new();
    for (index, it) in passed_over.iter().enumerate() {
        let start = if index == 0 { ". Passed over: " } else { "; " };
        text.push_str(&format!("{start}{} ({})", it.source, it.reason));
    }
    for (index, file) in looked_at.iter().enumerate() {
        let start = if index == 0 { ". Files: " } else { ", " };
        text.push_str(start);
        text.push_str(file);
    }
    text
}

struct Fetcher<'f> {
    session: &'f Session,
    outside: Outside<'f>,
    layers: &'f mut Vec<Option<Credentials>>,
    is_lent: bool,
}

impl Fetcher<'_> {
    fn outermost(&mut self) -> Result<Credentials, ProviderError> {
        let session = self.session;
        let Some(role) = &session.role else {
            return self.base(0);
        };
        if let Some(kept) = self.good(0, 0) {
            return Ok(kept);
        }
        let from = self.base(1)?;
        let fresh = self.outside.providers.assume_role(role, &from)?;
        Ok(self.keep(0, fresh))
    }

    /// What the host lends, else what the plan says.
    fn base(&mut self, layer: usize) -> Result<Credentials, ProviderError> {
        if let Some(lent) = self.outside.platform.credentials() {
            self.is_lent = true;
            return Ok(lent);
        }
        let session = self.session;
        match &session.plan {
            Ok(plan) => self.layer(layer, &plan.base),
            Err(error) => Err(ProviderError::new(error.to_string())),
        }
    }

    fn layer(&mut self, layer: usize, source: &Source) -> Result<Credentials, ProviderError> {
        let Outside {
            platform,
            providers,
        } = self.outside;
        if let Some(kept) = self.good(layer, source.window()) {
            return Ok(kept);
        }
        let fresh = match source {
            Source::AssumeRole { from, role } => {
                let from = self.layer(layer + 1, from)?;
                providers.assume_role(role, &from)?
            }
            Source::Container(container) => providers.container(container)?,
            Source::Environment { keys, .. }
            | Source::Profile { keys, .. }
            | Source::Static(keys) => {
                return Ok(keys.credentials());
            }
            Source::HostGiven => {
                let lent = platform.credentials();
                return lent.ok_or_else(|| ProviderError::new("the host lends no credentials"));
            }
            Source::Imds(instance) => match (providers.imds(instance), self.layers.get(layer)) {
                (Err(_), Some(Some(old))) => imds::extended(platform, old.clone()),
                (fetched, _) => fetched?,
            },
            Source::Process(command) => process::credentials(platform, command)?,
            Source::Sso(sso) => providers.sso(sso)?,
            Source::WebIdentity(role) => providers.assume_role_with_web_identity(role)?,
        };
        Ok(self.keep(layer, fresh))
    }

    /// What is kept, if it is good for longer than so many seconds.
    fn good(&self, layer: usize, window: u64) -> Option<Credentials> {
        let kept = self.layers.get(layer)?.as_ref()?;
        is_good(kept, self.outside, window).then(|| kept.clone())
    }

    fn keep(&mut self, layer: usize, fresh: Credentials) -> Credentials {
        if self.layers.len() <= layer {
            self.layers.resize(layer + 1, None);
        }
        if let Some(place) = self.layers.get_mut(layer) {
            *place = Some(fresh.clone());
        }
        fresh
    }
}

impl Source {
    /// Keys that are there without asking anybody.
    fn keys(&self) -> Option<&StaticKeys> {
        match self {
            Self::Environment { keys, .. } | Self::Profile { keys, .. } | Self::Static(keys) => {
                Some(keys)
            }
            _ => None,
        }
    }

    /// How long before their end its credentials are renewed. Seconds.
    fn window(&self) -> u64 {
        match self {
            Self::Container(_) => CONTAINER_WINDOW,
            _ => 0,
        }
    }
}

impl StaticKeys {
    fn credentials(&self) -> Credentials {
        Credentials {
            key: self.key.clone(),
            expires_at: None,
            account_id: self.account_id.clone(),
        }
    }
}

/// Whether credentials are good for longer than so many seconds.
fn is_good(credentials: &Credentials, outside: Outside<'_>, window: u64) -> bool {
    let now = outside.platform.now().as_secs();
    let end = credentials.expires_at;
    end.is_none_or(|end| now < end.saturating_sub(window))
}

/// The fifth part of an ARN.
fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

fn is_same(one: &AccessKey, other: &AccessKey) -> bool {
    fn token(key: &AccessKey) -> Option<&str> {
        key.session_token.as_ref().map(|token| token.expose())
    }
    one.id == other.id && one.secret.expose() == other.secret.expose() && token(one) == token(other)
}
