//! The least that AWS must allow for a configuration to work.
//!
//! Whoever has to guess grants `s3:*`, and every job can then read every state of the company with all secrets in it. The
//! statements here follow from the requests that this backend makes, and from nothing else.

use serde_json::Value;

use crate::arn::Arns;
use crate::config::{self, Encryption, Settings};
use crate::contract::{Diagnostic, Policy, PolicyOptions, Purpose, Severity};
use crate::credentials::{RoleArguments, Source};
use crate::failure::Context;
use crate::operation::Operation;
use crate::platform::Surroundings;
use crate::probe::{self, KEY_INFIX};
use crate::workspace;

/// The only version of the language of policies that knows `${*}`.
const LANGUAGE: &str = "2012-10-17";

/// The policy that a configuration needs, and what a person should know about it. Touches no network.
///
/// # Errors
/// What is wrong with the configuration or the options.
pub fn least(
    config: &str,
    surroundings: &dyn Surroundings,
    options: &PolicyOptions,
) -> Result<Policy, Vec<Diagnostic>> {
    let resolution = config::resolve(config, surroundings)
        .map_err(|list| list.into_iter().map(Diagnostic::from).collect::<Vec<_>>())?;
    let settings = &resolution.settings;
    let location = settings.bucket_location();
    let context = Context {
        settings,
        location: &location,
        workspace: None,
    };
    check(settings, options).map_err(|diagnostic| vec![diagnostic])?;
    let paths = Paths::of(&context, options).map_err(|reason| {
        let summary = "Invalid workspace";
        vec![error(summary, reason)]
    })?;
    let (plan, role) = resolution.session.parts();
    // What the host lends takes the place of what the configuration says of credentials.
    let plan = plan
        .as_ref()
        .ok()
        .filter(|_| surroundings.credentials().is_none());
    let base = plan.map(|plan| &plan.base);
    let assumed = role.or(match base {
        Some(Source::AssumeRole { role, .. }) => Some(role),
        _ => None,
    });
    let role_arn = match (assumed, base) {
        (Some(role), _) => &role.role_arn,
        (None, Some(Source::WebIdentity(role))) => &role.role_arn,
        _ => "",
    };
    let account = match resolution.session.allowed_accounts() {
        [account] => account,
        _ => role_arn.split(':').nth(4).unwrap_or_default(),
    };
    let mut writer = Writer {
        arns: Arns {
            account: if is_account(account) { account } else { "*" },
            settings,
            location: &location,
        },
        options,
        statements: String::new(),
        notes: Vec::new(),
    };
    match options.purpose {
        Purpose::Doctor => writer.probe(),
        Purpose::Apply | Purpose::Outputs | Purpose::Plan | Purpose::Repair => writer.work(&paths),
    }
    if !role_arn.is_empty() && options.principals.is_empty() {
        let needs = assumed.map(assuming).unwrap_or_default();
        writer.notes.push(format!(
            "The policy is for the role {role_arn}, which makes the requests.{needs}"
        ));
    }
    Ok(Policy {
        document: format!(
            "{{\"Version\":\"{LANGUAGE}\",\"Statement\":[{}]}}",
            writer.statements
        ),
        notes: writer.notes,
    })
}

/// What it takes to assume a role, as a sentence.
fn assuming(role: &RoleArguments) -> String {
    let tags = match role.tags.is_empty() {
        true => "",
        false => ", sts:TagSession",
    };
    let identity = match role.source_identity {
        Some(_) => ", sts:SetSourceIdentity",
        None => "",
    };
    format!(" Whoever assumes it needs on it: sts:AssumeRole{tags}{identity}.")
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|it| it.is_ascii_digit())
}

fn check(settings: &Settings, options: &PolicyOptions) -> Result<(), Diagnostic> {
    if options.purpose == Purpose::Repair && settings.dynamodb_table.is_none() {
        return Err(error(
            "No digest to repair",
            "Only DynamoDB holds digests, and the configuration names no dynamodb_table."
                .to_owned(),
        ));
    }
    for principal in &options.principals {
        let is_arn = principal.starts_with("arn:") && principal.split(':').count() >= 6;
        if !is_account(principal) && (!is_arn || principal.contains('*')) {
            return Err(error(
                "Invalid principal",
                format!(
                    "{principal:?} is neither an ARN without wildcards, such as \
                     \"arn:aws:iam::123456789012:role/deploy\", nor the id of an account."
                ),
            ));
        }
    }
    Ok(())
}

fn error(summary: &str, detail: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        summary: summary.to_owned(),
        detail,
        attribute: None,
    }
}

/// Paths of states, as policies have them.
struct Paths {
    states: Vec<String>,
    /// Those among them that may be deleted.
    deletable: Vec<String>,
    /// What is listed to find workspaces.
    listed: Option<String>,
}

impl Paths {
    fn of(context: &Context<'_>, options: &PolicyOptions) -> Result<Self, String> {
        let settings = context.settings;
        let key = escaped(&settings.key);
        let mut paths = Self {
            states: Vec::new(),
            deletable: Vec::new(),
            listed: None,
        };
        let Some(names) = &options.workspaces else {
            paths.states.push(key.clone());
            if workspace::can_have_workspaces(settings) {
                let root = escaped(&workspace::root(settings));
                paths.deletable.push(format!("{root}*/{key}"));
                paths.listed = Some(root);
            }
            paths.states.extend(paths.deletable.clone());
            return Ok(paths);
        };
        for name in names {
            let path = workspace::state_path(context, name).map_err(|it| it.message)?;
            let path = escaped(&path);
            if paths.states.contains(&path) {
                continue;
            }
            if name != workspace::DEFAULT {
                paths.deletable.push(path.clone());
            }
            paths.states.push(path);
        }
        Ok(paths)
    }

    fn locks(&self) -> Vec<String> {
        let lock = |state: &String| format!("{state}.tflock");
        self.states.iter().map(lock).collect()
    }
}

/// What a condition compares, and with what.
struct Only<'a> {
    key: &'static str,
    values: &'a [String],
}

struct Writer<'a> {
    arns: Arns<'a>,
    options: &'a PolicyOptions,
    /// JSON, with commas between them.
    statements: String,
    notes: Vec<String>,
}

impl Writer<'_> {
    /// What is needed to work with states.
    fn work(&mut self, paths: &Paths) {
        let settings = self.arns.settings;
        let purpose = self.options.purpose;
        let writes = purpose == Purpose::Apply;
        let locks = purpose != Purpose::Outputs;
        let lockfile = locks && settings.use_lockfile;
        let mut actions = vec![Operation::GetObject.permission()];
        if purpose == Purpose::Repair {
            actions.push(Operation::GetVersion.permission());
        }
        if writes {
            self.upload(&mut actions, settings.state_tags.is_some());
        }
        self.allow("States", actions, self.objects(&paths.states), None);
        if writes && self.options.delete_workspaces {
            let actions = vec![Operation::DeleteObject.permission()];
            let objects = self.objects(&paths.deletable);
            self.allow("DeletedWorkspaces", actions, objects, None);
        }
        let mut looked_for = paths.states.clone();
        if lockfile {
            let mut actions = vec![
                Operation::DeleteObject.permission(),
                Operation::GetObject.permission(),
            ];
            self.upload(&mut actions, settings.lock_tags.is_some());
            let locks = paths.locks();
            self.allow("Locks", actions, self.objects(&locks), None);
            looked_for.extend(locks);
        }
        looked_for.extend(paths.listed.clone());
        self.list(&looked_for);
        self.encrypt(writes || lockfile);
        if settings.dynamodb_table.is_some() {
            self.items(paths);
        }
        let list = match &paths.listed {
            Some(root) => {
                self.notes.push(format!(
                    "In policies, * stands for slashes, too: this one covers all objects whose keys begin with \"{root}\" and \
                     end with \"/{}\". Where that is too much, name the workspaces.",
                    settings.key
                ));
                " and to list the workspaces"
            }
            None => "",
        };
        self.notes.push(format!(
            "s3:ListBucket, limited to these keys, is there to tell what does not exist from what is forbidden{list}: \
             without it, S3 answers 403 instead of 404 where there is no state yet."
        ));
        self.tell_surroundings();
    }

    /// Objects whose absence is to be told, and prefixes that are listed. S3 takes the key of an absent object for the
    /// prefix.
    fn list(&mut self, looked_for: &[String]) {
        let mut actions = vec![Operation::ListObjects.permission()];
        if matches!(self.options.purpose, Purpose::Doctor | Purpose::Repair) {
            actions.push(Operation::ListVersions.permission());
        }
        let only = Only {
            key: "s3:prefix",
            values: looked_for,
        };
        self.allow("List", actions, vec![self.bucket()], Some(only));
    }

    fn items(&mut self, paths: &Paths) {
        let [delete, get, put] = ITEMS.map(Operation::permission);
        let locks: Vec<String> = paths.states.iter().map(|path| self.item(path)).collect();
        let digests: Vec<String> = locks.iter().map(|item| format!("{item}-md5")).collect();
        let of = |values| {
            let key = "dynamodb:LeadingKeys";
            Some(Only { key, values })
        };
        let table = vec![self.arns.table()];
        if self.options.purpose != Purpose::Outputs {
            self.allow(
                "LockItems",
                vec![delete, get, put],
                table.clone(),
                of(&locks),
            );
        }
        let digest_actions = match self.options.purpose {
            // A write takes the digest away first.
            Purpose::Apply | Purpose::Repair => vec![delete, get, put],
            _ => vec![get],
        };
        self.allow("DigestItems", digest_actions, table, of(&digests));
    }

    /// What is needed to probe the store.
    fn probe(&mut self) {
        let settings = self.arns.settings;
        let [bucket, table] = probe::tried_out(settings, self.options.even_aws);
        let stem = escaped(&format!("{}{KEY_INFIX}", settings.key));
        let probes = [format!("{stem}*")];
        let actions = vec![Operation::GetBucketVersioning.permission()];
        self.allow("Versioning", actions, vec![self.bucket()], None);
        if bucket {
            let has_tags = settings.state_tags.is_some() || settings.lock_tags.is_some();
            let mut actions = vec![
                Operation::DeleteObject.permission(),
                Operation::DeleteVersion.permission(),
                Operation::GetObject.permission(),
            ];
            self.upload(&mut actions, has_tags);
            self.allow("Probes", actions, self.objects(&probes), None);
            self.list(&probes);
            self.encrypt(true);
        } else {
            self.notes.push(
                "AWS's own endpoints are not tried out unless that is asked for, and the policy is for a look at their settings."
                    .to_owned(),
            );
        }
        if settings.dynamodb_table.is_some() {
            let actions = vec![Operation::DescribeTable.permission()];
            self.allow("Table", actions, vec![self.arns.table()], None);
        }
        if table {
            let items = [self.item(&probes[0])];
            let only = Only {
                key: "dynamodb:LeadingKeys",
                values: &items,
            };
            let actions = ITEMS.map(Operation::permission).to_vec();
            self.allow("ProbeItems", actions, vec![self.arns.table()], Some(only));
        }
        self.tell_surroundings();
    }

    fn encrypt(&mut self, writes: bool) {
        let Encryption::Kms(id) = &self.arns.settings.encryption else {
            return;
        };
        let mut actions = vec!["kms:Decrypt"];
        if writes {
            actions.push("kms:GenerateDataKey");
        }
        let (key, alias) = self.arns.kms_key(id);
        let Some(alias) = alias else {
            return self.allow("Key", actions, vec![key], None);
        };
        let aliases = [alias.to_owned()];
        let only = Only {
            key: "kms:ResourceAliases",
            values: &aliases,
        };
        self.allow("Key", actions, vec![key], Some(only));
        if self.options.principals.is_empty() {
            self.notes.push(format!(
                "IAM knows keys by their ids, and kms_key_id names an alias: the policy allows whatever key has {alias}. \
                 Narrower is the ARN of the key in the statement Key, without the condition."
            ));
        }
    }

    /// What the configuration cannot tell.
    fn tell_surroundings(&mut self) {
        let settings = self.arns.settings;
        let bucket = &settings.bucket;
        let has_table = settings.dynamodb_table.is_some();
        if self.arns.is_access_point() {
            self.notes.push(
                "What the access point allows, its bucket must allow as well: see that the bucket's policy delegates \
                 to the access point."
                    .to_owned(),
            );
        } else if bucket.ends_with("-s3alias") {
            self.notes.push(format!(
                "{bucket} looks like the alias of an access point. IAM knows access points by their ARNs: give that ARN as \
                 bucket, or put it into the policy."
            ));
        }
        let has_key = matches!(settings.encryption, Encryption::Kms(_));
        if !self.options.principals.is_empty() {
            let others = match (has_key, has_table) {
                (true, true) => "the KMS key and the DynamoDB table",
                (true, false) => "the KMS key",
                (false, true) => "the DynamoDB table",
                (false, false) => return,
            };
            self.notes.push(format!(
                "The policy of a bucket says nothing about {others}: that takes a policy of whoever works with the \
                 states."
            ));
            return;
        }
        let reads = self.options.purpose != Purpose::Doctor || self.statements.contains("Probes");
        if reads && matches!(settings.encryption, Encryption::None) {
            self.notes.push(
                "Where the bucket encrypts with a KMS key by default, kms:Decrypt and, to write, kms:GenerateDataKey on \
                 that key are needed, too."
                    .to_owned(),
            );
        }
        if self.statements.contains(":*:") {
            self.notes.push(
                "The configuration does not tell the id of the account: put it in place of * in the ARNs of DynamoDB and KMS."
                    .to_owned(),
            );
        }
    }

    /// Adds what an upload takes.
    fn upload(&self, actions: &mut Vec<&'static str>, has_tags: bool) {
        actions.push(Operation::PutObject.permission());
        if self.arns.settings.acl.is_some() {
            actions.push("s3:PutObjectAcl");
        }
        if has_tags {
            actions.push("s3:PutObjectTagging");
        }
    }

    fn bucket(&self) -> String {
        escaped(&self.arns.bucket())
    }

    fn objects(&self, paths: &[String]) -> Vec<String> {
        let before = escaped(&self.arns.object(""));
        paths.iter().map(|path| format!("{before}{path}")).collect()
    }

    /// The key of the item that belongs to a path.
    fn item(&self, path: &str) -> String {
        format!("{}/{path}", escaped(&self.arns.settings.bucket))
    }

    /// Adds a statement, unless it would allow nothing, or is not the bucket's to allow.
    fn allow(
        &mut self,
        name: &str,
        actions: Vec<&'static str>,
        resources: Vec<String>,
        only: Option<Only<'_>>,
    ) {
        let principals = &self.options.principals;
        let is_of_bucket = actions.iter().all(|action| action.starts_with("s3:"));
        if resources.is_empty() || (!principals.is_empty() && !is_of_bucket) {
            return;
        }
        let comma = if self.statements.is_empty() { "" } else { "," };
        let texts = &mut self.statements;
        texts.push_str(comma);
        texts.push_str("{\"Sid\":\"");
        texts.push_str(name);
        texts.push_str("\",\"Effect\":\"Allow\"");
        if !principals.is_empty() {
            texts.push_str(",\"Principal\":{\"AWS\":");
            list(texts, &mut principals.iter().map(String::as_str));
            texts.push('}');
        }
        texts.push_str(",\"Action\":");
        list(texts, &mut actions.into_iter());
        texts.push_str(",\"Resource\":");
        list(texts, &mut resources.iter().map(String::as_str));
        if let Some(Only { key, values }) = only {
            for part in [
                ",\"Condition\":{\"",
                operator(key, values),
                "\":{\"",
                key,
                "\":",
            ] {
                texts.push_str(part);
            }
            list(texts, &mut values.iter().map(String::as_str));
            texts.push_str("}}");
        }
        texts.push('}');
    }
}

const ITEMS: [Operation; 3] = [
    Operation::DeleteItem,
    Operation::GetItem,
    Operation::PutItem,
];

/// How the values of a condition are compared: as patterns only if one is. DynamoDB has several keys in a request, and a key
/// of KMS several aliases.
fn operator(key: &str, values: &[String]) -> &'static str {
    let is_pattern = values.iter().any(|it| it.replace("${*}", "").contains('*'));
    match (key, is_pattern) {
        ("dynamodb:LeadingKeys", false) => "ForAllValues:StringEquals",
        ("dynamodb:LeadingKeys", true) => "ForAllValues:StringLike",
        ("kms:ResourceAliases", _) => "ForAnyValue:StringEquals",
        (_, false) => "StringEquals",
        (_, true) => "StringLike",
    }
}

/// A text that means itself in a policy.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, it| {
        match it {
            '$' | '*' | '?' => escaped.extend(['$', '{', it, '}']),
            it => escaped.push(it),
        }
        escaped
    })
}

/// Adds a list of texts, as JSON.
fn list(json: &mut String, texts: &mut dyn Iterator<Item = &str>) {
    let mut before = '[';
    for text in texts {
        json.push(before);
        // Only keys that are no text could fail.
        json.push_str(&serde_json::to_string(&Value::from(text)).unwrap_or_default());
        before = ',';
    }
    json.push(']');
}
