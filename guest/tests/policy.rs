//! Policies: they allow all that a purpose asks of AWS, and nothing that it does not.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reports by panicking"
)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use cofferdam_s3::Store;
use cofferdam_s3::contract::{
    DeleteOptions, Diagnostic, Expectation, Fence, Policy, PolicyOptions, ProbeOptions, Purpose,
    UnlockBy,
};
use cofferdam_s3::platform::Method;
use cofferdam_s3::policy::least;
use serde_json::{Value, json};
use support::*;

fn options(purpose: Purpose) -> PolicyOptions {
    PolicyOptions {
        purpose,
        workspaces: Some(vec!["default".to_owned()]),
        delete_workspaces: false,
        even_aws: true,
        principals: Vec::new(),
    }
}

fn all(purpose: Purpose) -> PolicyOptions {
    PolicyOptions {
        workspaces: None,
        ..options(purpose)
    }
}

/// The policy of a block with these arguments and more.
fn policy(change: Value, options: &PolicyOptions) -> Result<Policy, Vec<Diagnostic>> {
    let mut block = json!({"bucket": "b", "key": "k", "region": "eu-west-1",
        "access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "CANARY-SECRET"});
    let change = change.as_object().cloned().unwrap_or_default();
    block.as_object_mut().unwrap().extend(change);
    least(&block.to_string(), &Fake::default(), options)
}

fn statements(policy: &Policy) -> Vec<Value> {
    let document: Value = serde_json::from_str(&policy.document).unwrap();
    assert_eq!(document["Version"], "2012-10-17");
    let statements = document["Statement"].as_array().unwrap().clone();
    let names: BTreeSet<_> = statements.iter().map(|it| it["Sid"].to_string()).collect();
    assert_eq!(names.len(), statements.len(), "names are unique");
    statements
}

/// One line a statement, with `-` for the prefix of objects in `b` and the table `t`.
fn told(policy: &Policy) -> Vec<String> {
    statements(policy)
        .iter()
        .map(|statement| {
            assert_eq!(statement["Effect"], "Allow");
            let mut line = format!(
                "{}: {} on {}",
                statement["Sid"].as_str().unwrap(),
                words(&statement["Action"]),
                words(&statement["Resource"])
            );
            for (operator, condition) in statement["Condition"].as_object().into_iter().flatten() {
                for (key, values) in condition.as_object().unwrap() {
                    line += &format!(" if {operator} {key} {}", words(values));
                }
            }
            line
        })
        .collect()
}

fn words(list: &Value) -> String {
    let words = list.as_array().into_iter().flatten();
    words
        .filter_map(Value::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

fn assert_policy(change: Value, options: &PolicyOptions, expected: &[&str]) {
    let policy = policy(change.clone(), options).unwrap();
    assert_eq!(told(&policy), expected, "{change} {:?}", options.purpose);
    assert!(!policy.document.contains("CANARY"));
}

const READ: &str = "States: s3:GetObject on arn:aws:s3:::b/k";
const FIND: &str = "List: s3:ListBucket on arn:aws:s3:::b if StringEquals s3:prefix k";
const FIND_LOCK: &str =
    "List: s3:ListBucket on arn:aws:s3:::b if StringEquals s3:prefix k k.tflock";
const WRITE: &str = "States: s3:GetObject s3:PutObject on arn:aws:s3:::b/k";
const LOCK: &str = "Locks: s3:DeleteObject s3:GetObject s3:PutObject on arn:aws:s3:::b/k.tflock";
const LOCK_ITEM: &str = "LockItems: dynamodb:DeleteItem dynamodb:GetItem dynamodb:PutItem on \
    arn:aws:dynamodb:eu-west-1:*:table/t if ForAllValues:StringEquals dynamodb:LeadingKeys b/k";
const READ_DIGEST: &str = "DigestItems: dynamodb:GetItem on arn:aws:dynamodb:eu-west-1:*:table/t \
    if ForAllValues:StringEquals dynamodb:LeadingKeys b/k-md5";
const WRITE_DIGEST: &str = "DigestItems: dynamodb:DeleteItem dynamodb:GetItem dynamodb:PutItem on \
    arn:aws:dynamodb:eu-west-1:*:table/t if ForAllValues:StringEquals dynamodb:LeadingKeys b/k-md5";

const VERSIONING: &str = "Versioning: s3:GetBucketVersioning on arn:aws:s3:::b";
const PROBES: &str = "Probes: s3:DeleteObject s3:DeleteObjectVersion s3:GetObject s3:PutObject s3:PutObjectAcl \
    s3:PutObjectTagging on arn:aws:s3:::b/k.cofferdam-probe-*";
const TABLE: &str = "Table: dynamodb:DescribeTable on arn:aws:dynamodb:eu-west-1:*:table/t";

#[test]
fn a_purpose_gets_what_the_configuration_makes_of_it_and_no_more() {
    let none = json!({});
    let file = json!({"use_lockfile": true});
    let table = json!({"dynamodb_table": "t"});
    let both = json!({"use_lockfile": true, "dynamodb_table": "t"});
    for (change, purpose, expected) in [
        (&none, Purpose::Outputs, &[READ, FIND][..]),
        (&none, Purpose::Plan, &[READ, FIND]),
        (&none, Purpose::Apply, &[WRITE, FIND]),
        (&file, Purpose::Outputs, &[READ, FIND]),
        (&file, Purpose::Plan, &[READ, LOCK, FIND_LOCK]),
        (&file, Purpose::Apply, &[WRITE, LOCK, FIND_LOCK]),
        (&table, Purpose::Outputs, &[READ, FIND, READ_DIGEST]),
        (&table, Purpose::Plan, &[READ, FIND, LOCK_ITEM, READ_DIGEST]),
        (
            &table,
            Purpose::Apply,
            &[WRITE, FIND, LOCK_ITEM, WRITE_DIGEST],
        ),
        (
            &both,
            Purpose::Apply,
            &[WRITE, LOCK, FIND_LOCK, LOCK_ITEM, WRITE_DIGEST],
        ),
        (
            &both,
            Purpose::Repair,
            &[
                "States: s3:GetObject s3:GetObjectVersion on arn:aws:s3:::b/k",
                LOCK,
                "List: s3:ListBucket s3:ListBucketVersions on arn:aws:s3:::b if StringEquals \
                 s3:prefix k k.tflock",
                LOCK_ITEM,
                WRITE_DIGEST,
            ],
        ),
    ] {
        assert_policy(change.clone(), &options(purpose), expected);
    }
}

#[test]
fn a_probe_gets_its_own_keys_and_none_of_a_state() {
    assert_policy(
        json!({"dynamodb_table": "t", "acl": "private", "lock_tags": {"a": "b"}}),
        &options(Purpose::Doctor),
        &[
            VERSIONING,
            PROBES,
            "List: s3:ListBucket s3:ListBucketVersions on arn:aws:s3:::b if StringLike s3:prefix \
             k.cofferdam-probe-*",
            TABLE,
            "ProbeItems: dynamodb:DeleteItem dynamodb:GetItem dynamodb:PutItem on \
             arn:aws:dynamodb:eu-west-1:*:table/t if ForAllValues:StringLike \
             dynamodb:LeadingKeys b/k.cofferdam-probe-*",
        ],
    );
}

#[test]
fn a_place_that_is_not_tried_out_gets_no_probe() {
    let only_looks = PolicyOptions {
        even_aws: false,
        ..options(Purpose::Doctor)
    };
    let table = json!({"dynamodb_table": "t"});
    assert_policy(table.clone(), &only_looks, &[VERSIONING, TABLE]);
    assert_policy(json!({}), &only_looks, &[VERSIONING]);
    for (place, allowed) in [("s3", "Probes"), ("dynamodb", "ProbeItems")] {
        let mut block = table.clone();
        block["endpoints"] = json!({place: "https://store.example"});
        let found = told(&policy(block, &only_looks).unwrap());
        let probed: Vec<_> = found
            .iter()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| name.starts_with("Probe"))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(probed, [allowed], "{found:#?}");
    }
}

#[test]
fn an_account_that_the_configuration_tells_stands_in_the_arns() {
    let key = json!({"dynamodb_table": "t", "encrypt": true, "kms_key_id": "alias/a"});
    let role = |arn: &str| json!({"assume_role": {"role_arn": arn}});
    for (more, account) in [
        (json!({}), "*"),
        (
            json!({"allowed_account_ids": ["210987654321"]}),
            "210987654321",
        ),
        (
            json!({"allowed_account_ids": ["210987654321", "123456789012"]}),
            "*",
        ),
        (
            role("arn:aws:iam::123456789012:role/states"),
            "123456789012",
        ),
    ] {
        let mut block = key.clone();
        let more = more.as_object().unwrap().clone();
        block.as_object_mut().unwrap().extend(more);
        let found = policy(block, &options(Purpose::Outputs)).unwrap();
        let found_statements = statements(&found);
        for (name, resource) in [
            ("Key", format!("arn:aws:kms:eu-west-1:{account}:key/*")),
            (
                "DigestItems",
                format!("arn:aws:dynamodb:eu-west-1:{account}:table/t"),
            ),
        ] {
            let statement = found_statements.iter().find(|it| it["Sid"] == name);
            assert_eq!(statement.unwrap()["Resource"], json!([resource]));
        }
        let asks = found
            .notes
            .iter()
            .any(|note| note.contains("id of the account"));
        assert_eq!(asks, account == "*", "{:?}", found.notes);
    }
}

#[test]
fn workspaces_are_named_or_all_and_are_deleted_only_when_that_is_asked_for() {
    let table = json!({"dynamodb_table": "t"});
    let named = PolicyOptions {
        workspaces: Some(vec![
            "dev".to_owned(),
            "default".to_owned(),
            "dev".to_owned(),
        ]),
        delete_workspaces: true,
        ..options(Purpose::Apply)
    };
    assert_policy(
        table.clone(),
        &named,
        &[
            "States: s3:GetObject s3:PutObject on arn:aws:s3:::b/env:/dev/k arn:aws:s3:::b/k",
            "DeletedWorkspaces: s3:DeleteObject on arn:aws:s3:::b/env:/dev/k",
            "List: s3:ListBucket on arn:aws:s3:::b if StringEquals s3:prefix env:/dev/k k",
            "LockItems: dynamodb:DeleteItem dynamodb:GetItem dynamodb:PutItem on \
             arn:aws:dynamodb:eu-west-1:*:table/t if ForAllValues:StringEquals \
             dynamodb:LeadingKeys b/env:/dev/k b/k",
            "DigestItems: dynamodb:DeleteItem dynamodb:GetItem dynamodb:PutItem on \
             arn:aws:dynamodb:eu-west-1:*:table/t if ForAllValues:StringEquals \
             dynamodb:LeadingKeys b/env:/dev/k-md5 b/k-md5",
        ],
    );
    let notes = policy(json!({"workspace_key_prefix": "w"}), &all(Purpose::Outputs))
        .unwrap()
        .notes;
    let warns = |note: &String| note.contains("begin with \"w/\" and end with \"/k\"");
    assert!(notes.iter().any(warns), "{notes:?}");
    assert_policy(
        json!({"dynamodb_table": "t", "workspace_key_prefix": "w"}),
        &all(Purpose::Outputs),
        &[
            "States: s3:GetObject on arn:aws:s3:::b/k arn:aws:s3:::b/w/*/k",
            "List: s3:ListBucket on arn:aws:s3:::b if StringLike s3:prefix k w/*/k w/",
            "DigestItems: dynamodb:GetItem on arn:aws:dynamodb:eu-west-1:*:table/t if \
             ForAllValues:StringLike dynamodb:LeadingKeys b/k-md5 b/w/*/k-md5",
        ],
    );
    assert_policy(
        json!({"workspace_key_prefix": ""}),
        &all(Purpose::Outputs),
        &[
            "States: s3:GetObject on arn:aws:s3:::b/k arn:aws:s3:::b/*/k",
            "List: s3:ListBucket on arn:aws:s3:::b if StringLike s3:prefix k */k ",
        ],
    );
    let only_default = PolicyOptions {
        delete_workspaces: true,
        ..options(Purpose::Apply)
    };
    assert_policy(json!({}), &only_default, &[WRITE, FIND]);
    // Where there can be no other workspace, all of them are the one.
    assert_policy(
        json!({"workspace_key_prefix": "a/../b"}),
        &all(Purpose::Outputs),
        &[READ, FIND],
    );
}

#[test]
fn uploads_take_what_they_carry() {
    let change = json!({"use_lockfile": true, "acl": "private", "state_tags": {"a": "b"}});
    let found = told(&policy(change, &options(Purpose::Apply)).unwrap());
    assert_eq!(
        found[..2],
        [
            "States: s3:GetObject s3:PutObject s3:PutObjectAcl s3:PutObjectTagging on \
             arn:aws:s3:::b/k",
            "Locks: s3:DeleteObject s3:GetObject s3:PutObject s3:PutObjectAcl on \
             arn:aws:s3:::b/k.tflock",
        ]
    );
}

#[test]
fn a_kms_key_is_named_as_iam_knows_it() {
    const ID: &str = "1234abcd-12ab-34cd-86ef-1234567890ab";
    let arn = format!("arn:aws:kms:eu-west-1:123456789012:key/{ID}");
    let by_id = format!("arn:aws:kms:eu-west-1:*:key/{ID}");
    let alias = "arn:aws:kms:eu-west-1:*:key/* if ForAnyValue:StringEquals kms:ResourceAliases \
                 alias/states";
    let alias_arn = "arn:aws:kms:eu-west-1:123456789012:key/* if ForAnyValue:StringEquals \
                     kms:ResourceAliases alias/states";
    for (given, expected) in [
        (arn.as_str(), arn.as_str()),
        (ID, &by_id),
        ("alias/states", alias),
        ("arn:aws:kms:eu-west-1:123456789012:alias/states", alias_arn),
    ] {
        let change = json!({"encrypt": true, "kms_key_id": given, "use_lockfile": true});
        for (purpose, actions) in [
            (Purpose::Outputs, "kms:Decrypt"),
            (Purpose::Plan, "kms:Decrypt kms:GenerateDataKey"),
            (Purpose::Apply, "kms:Decrypt kms:GenerateDataKey"),
            (Purpose::Doctor, "kms:Decrypt kms:GenerateDataKey"),
        ] {
            let policy = policy(change.clone(), &options(purpose)).unwrap();
            let line = format!("Key: {actions} on {expected}");
            assert!(
                told(&policy).contains(&line),
                "{line}: {:#?}",
                told(&policy)
            );
            let warned = policy
                .notes
                .iter()
                .any(|note| note.contains("names an alias"));
            assert_eq!(warned, given.contains("alias"), "{given}");
        }
    }
    let without_encrypt = json!({"kms_key_id": ID});
    assert_policy(without_encrypt, &options(Purpose::Apply), &[WRITE, FIND]);
}

#[test]
fn partitions_access_points_and_tables_have_arns_of_their_own() {
    for (change, bucket, table) in [
        (
            json!({"region": "cn-north-1"}),
            "arn:aws-cn:s3:::b/k",
            "arn:aws-cn:dynamodb:cn-north-1:*:table/t",
        ),
        (
            json!({"region": "us-gov-west-1"}),
            "arn:aws-us-gov:s3:::b/k",
            "arn:aws-us-gov:dynamodb:us-gov-west-1:*:table/t",
        ),
        (
            json!({"bucket": "arn:aws:s3:eu-west-1:123456789012:accesspoint/p"}),
            "arn:aws:s3:eu-west-1:123456789012:accesspoint/p/object/k",
            "arn:aws:dynamodb:eu-west-1:*:table/t",
        ),
        (
            json!({"dynamodb_table": "arn:aws:dynamodb:eu-west-1:123456789012:table/t"}),
            "arn:aws:s3:::b/k",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/t",
        ),
    ] {
        let mut whole = json!({"dynamodb_table": "t"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let statements = statements(&policy(whole, &options(Purpose::Outputs)).unwrap());
        assert_eq!(statements[0]["Resource"], json!([bucket]));
        assert_eq!(statements[2]["Resource"], json!([table]));
    }
}

#[test]
fn what_means_more_than_itself_in_a_policy_is_escaped() {
    assert_policy(
        json!({"key": "a*b?c${aws:username}"}),
        &options(Purpose::Outputs),
        &[
            "States: s3:GetObject on arn:aws:s3:::b/a${*}b${?}c${$}{aws:username}",
            "List: s3:ListBucket on arn:aws:s3:::b if StringEquals s3:prefix \
             a${*}b${?}c${$}{aws:username}",
        ],
    );
}

#[test]
fn the_policy_of_a_bucket_names_its_principals_and_says_nothing_of_other_services() {
    const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";
    let of_bucket = PolicyOptions {
        principals: vec![ROLE.to_owned(), "210987654321".to_owned()],
        ..options(Purpose::Apply)
    };
    let change = json!({"dynamodb_table": "t", "encrypt": true, "kms_key_id": "alias/a"});
    let found = policy(change, &of_bucket).unwrap();
    assert_eq!(told(&found), [WRITE, FIND]);
    for statement in statements(&found) {
        assert_eq!(
            statement["Principal"],
            json!({"AWS": [ROLE, "210987654321"]})
        );
    }
    let told_so = |note: &String| note.contains("the KMS key and the DynamoDB table");
    assert!(found.notes.iter().any(told_so), "{:?}", found.notes);
    for wrong in ["*", "deploy", "arn:aws:iam::*:role/x", "12345678901", ""] {
        let options = PolicyOptions {
            principals: vec![wrong.to_owned()],
            ..options(Purpose::Apply)
        };
        let refused = policy(json!({}), &options).unwrap_err();
        assert_eq!(refused[0].summary, "Invalid principal", "{wrong}");
    }
}

#[test]
fn a_role_gets_the_policy_and_a_wrong_question_gets_no_policy() {
    let role = "arn:aws:iam::123456789012:role/states";
    for (more, needs) in [
        (json!({}), "needs on it: sts:AssumeRole."),
        (
            json!({"tags": {"a": "b"}, "source_identity": "me"}),
            "needs on it: sts:AssumeRole, sts:TagSession, sts:SetSourceIdentity.",
        ),
    ] {
        let mut block = json!({"assume_role": {"role_arn": role}});
        let more = more.as_object().unwrap().clone();
        block["assume_role"].as_object_mut().unwrap().extend(more);
        let notes = policy(block, &options(Purpose::Plan)).unwrap().notes;
        let is_told = |note: &String| note.contains(role) && note.contains(needs);
        assert!(notes.iter().any(is_told), "{notes:?}");
    }

    let summary = |change, options| policy(change, &options).unwrap_err()[0].summary.clone();
    assert_eq!(
        summary(json!({}), options(Purpose::Repair)),
        "No digest to repair"
    );
    let workspace = PolicyOptions {
        workspaces: Some(vec!["..".to_owned()]),
        ..options(Purpose::Plan)
    };
    assert_eq!(summary(json!({}), workspace), "Invalid workspace");
    assert_eq!(
        summary(json!({"key": "/k"}), options(Purpose::Plan)),
        "Invalid Value"
    );
}

// What follows judges requests as IAM does, so far as the policies here need it.

/// What one request needs: an action on a resource, in the light of a key of conditions.
#[derive(Debug)]
struct Needed {
    action: String,
    resource: String,
    context: Option<(&'static str, String)>,
}

fn needed(action: &str, resource: String) -> Needed {
    Needed {
        action: action.to_owned(),
        resource,
        context: None,
    }
}

fn decoded(path: &str) -> String {
    path.replace("%3A", ":").replace("%2F", "/")
}

/// What AWS asks IAM for a request.
fn needs(request: &Request, kms: bool) -> Vec<Needed> {
    const TABLE: &str = "arn:aws:dynamodb:eu-west-1:123456789012:table/locks";
    const BUCKET: &str = "arn:aws:s3:::tfstate";
    if let Some(target) = request.header("x-amz-target") {
        let action = target.replace("DynamoDB_20120810.", "dynamodb:");
        let body = request.json();
        let key = ["Key", "Item"].map(|place| body[place]["LockID"]["S"].as_str());
        let context = key[0].or(key[1]).map(str::to_owned);
        return vec![Needed {
            action,
            resource: TABLE.to_owned(),
            context: context.map(|key| ("dynamodb:LeadingKeys", key)),
        }];
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let key = decoded(path.trim_start_matches("/tfstate").trim_start_matches('/'));
    if key.is_empty() {
        let action = match query {
            "versioning=" => return vec![needed("s3:GetBucketVersioning", BUCKET.to_owned())],
            query if query.ends_with("versions=") => "s3:ListBucketVersions",
            _ => "s3:ListBucket",
        };
        let prefix = query.split("prefix=").nth(1).unwrap();
        let prefix = decoded(prefix.split('&').next().unwrap());
        return vec![Needed {
            context: Some(("s3:prefix", prefix)),
            ..needed(action, BUCKET.to_owned())
        }];
    }
    let version = if query.is_empty() { "" } else { "Version" };
    let object = format!("{BUCKET}/{key}");
    let on_key = |action| kms.then(|| needed(action, "arn:aws:kms:eu-west-1:1:key/x".to_owned()));
    match request.method {
        Method::Get => {
            let mut all = vec![needed(&format!("s3:GetObject{version}"), object)];
            all.extend(on_key("kms:Decrypt"));
            if version.is_empty() {
                // The object may be absent.
                all.push(Needed {
                    context: Some(("s3:prefix", key)),
                    ..needed("s3:ListBucket", BUCKET.to_owned())
                });
            }
            all
        }
        Method::Put => {
            let mut all = vec![needed("s3:PutObject", object.clone())];
            all.extend(on_key("kms:GenerateDataKey"));
            for (header, action) in [
                ("x-amz-acl", "s3:PutObjectAcl"),
                ("x-amz-tagging", "s3:PutObjectTagging"),
            ] {
                all.extend(
                    request
                        .header(header)
                        .map(|_| needed(action, object.clone())),
                );
            }
            // S3 demands this of conditional writes.
            let conditional = request.header("if-match");
            all.extend(conditional.map(|_| needed("s3:GetObject", object.clone())));
            all
        }
        Method::Delete => {
            let conditional = request.header("if-match");
            let read = conditional.map(|_| needed("s3:GetObject", object.clone()));
            let delete = needed(&format!("s3:DeleteObject{version}"), object);
            read.into_iter().chain([delete]).collect()
        }
        Method::Post => unreachable!(),
    }
}

/// Whether a text has the form of a pattern with `*`.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let mut ends = text.char_indices().map(|it| it.0).chain([text.len()]);
            ends.any(|end| is_like(rest, &text[end..]))
        }),
    }
}

fn allows(statement: &Value, needed: &Needed) -> bool {
    let any = |values: &Value, matches: &dyn Fn(&str) -> bool| {
        let values = values.as_array().unwrap().iter();
        values.filter_map(Value::as_str).any(matches)
    };
    let conditions = statement["Condition"].as_object();
    let is_met = conditions
        .into_iter()
        .flatten()
        .all(|(operator, condition)| {
            let (key, values) = condition.as_object().unwrap().iter().next().unwrap();
            match &needed.context {
                Some((known, value)) if known == key => any(values, &|it| {
                    let pattern = operator.ends_with("Like") && is_like(it, value);
                    pattern || it == value
                }),
                _ => false,
            }
        });
    is_met
        && any(&statement["Action"], &|it| it == needed.action)
        && any(&statement["Resource"], &|it| is_like(it, &needed.resource))
}

/// Does what somebody with this purpose does, and answers with the requests.
fn work(fake: &Fake, store: &Store<Fake>, purpose: Purpose, workspace: &str) -> Vec<Request> {
    let bytes = state(1);
    let read = |fake: &Fake| {
        store.read(workspace, None).unwrap();
        fake.world().requests.len()
    };
    match purpose {
        Purpose::Outputs => {
            read(fake);
        }
        Purpose::Plan => {
            let lock = store.lock(workspace, info("l"));
            read(fake);
            if let Ok(lock) = lock {
                store.holders(workspace).unwrap();
                store.unlock(workspace, &UnlockBy::Held(lock)).unwrap();
            }
        }
        Purpose::Apply => {
            let lock = store.lock(workspace, info("l")).ok();
            read(fake);
            fake.pass(Duration::from_secs(60));
            let options = |expect| match &lock {
                Some(lock) => under(lock, expect),
                None => expecting(expect),
            };
            let created = store
                .write(workspace, &bytes, &options(Expectation::Absent))
                .unwrap();
            let written = store
                .write(
                    workspace,
                    &state(2),
                    &options(Expectation::Revision(created)),
                )
                .unwrap();
            if workspace != "default" {
                let options = DeleteOptions {
                    expect: Expectation::Revision(written),
                    lock: lock.clone(),
                };
                store.delete(workspace, &options).unwrap();
            }
            if let Some(lock) = lock {
                store.unlock(workspace, &UnlockBy::Held(lock)).unwrap();
            }
        }
        Purpose::Repair => {
            fake.put(STATE, &bytes);
            let path = STATE.to_owned();
            let old = (path, "v1".to_owned(), state(7));
            fake.world().versions = vec![old];
            fake.world().quirks.md5_tags = true;
            fake.put_item(DIGEST, "Digest", &md5(&state(7)));
            let lock = store.lock(workspace, info("l")).unwrap();
            let report = store.compare_digest(workspace).unwrap();
            let recorded = report.recorded.as_deref();
            let right = report.stored.unwrap().md5;
            // An old lock is read again.
            fake.pass(Duration::from_secs(60));
            store
                .record_digest(workspace, recorded, Some(&right), Some(&lock))
                .unwrap();
            store
                .record_digest(workspace, Some(&right), None, Some(&lock))
                .unwrap();
            store.unlock(workspace, &UnlockBy::Held(lock)).unwrap();
        }
        Purpose::Doctor => {
            let options = ProbeOptions {
                rounds: 1,
                even_aws: true,
            };
            store.probe(options).unwrap();
        }
    }
    std::mem::take(&mut fake.world().requests)
}

#[test]
fn each_request_is_allowed_and_each_statement_is_needed() {
    let kms = ",\"encrypt\":true,\"kms_key_id\":\"arn:aws:kms:eu-west-1:1:key/\
               1234abcd-12ab-34cd-86ef-1234567890ab\"";
    let carried = ",\"acl\":\"private\",\"state_tags\":{\"a\":\"b\"}";
    let mut count = 0;
    for locking in ["", ",\"use_lockfile\":false", &table(false), &table(true)] {
        for more in ["", kms, carried] {
            for purpose in [
                Purpose::Apply,
                Purpose::Doctor,
                Purpose::Outputs,
                Purpose::Plan,
                Purpose::Repair,
            ] {
                for workspace in ["default", "dev"] {
                    let has_table = locking.contains("dynamodb_table");
                    let is_odd = matches!(purpose, Purpose::Repair | Purpose::Doctor);
                    if (purpose == Purpose::Repair && !has_table) || (is_odd && workspace == "dev")
                    {
                        continue;
                    }
                    let case = format!("{purpose:?} {workspace} {locking}{more}");
                    for lists in [false, true] {
                        let fake = Fake::default();
                        fake.world().quirks.page = 1000;
                        let more = format!("{locking}{more}");
                        let store = fake.open_with(&more, Fence::Required, None);
                        let mut requests = work(&fake, &store, purpose, workspace);
                        if lists {
                            store.workspaces().unwrap();
                            requests.append(&mut fake.world().requests);
                        }
                        let options = PolicyOptions {
                            workspaces: (!lists).then(|| vec![workspace.to_owned()]),
                            delete_workspaces: workspace != "default",
                            ..options(purpose)
                        };
                        let policy = least(&Fake::config(&more), &fake, &options).unwrap();
                        let has_key = more.contains("kms");
                        count += assert_fits(&policy, &requests, has_key, lists, &case);
                    }
                }
            }
        }
    }
    assert!(count > 2_500, "{count} requests were judged");
}

/// All that is needed is allowed; and if the policy is for one workspace, all that is allowed is needed.
fn assert_fits(policy: &Policy, requests: &[Request], kms: bool, lists: bool, case: &str) -> usize {
    let mut statements = statements(policy);
    for statement in &mut statements {
        if statement["Sid"] == "Key" {
            statement["Resource"] = json!(["arn:aws:kms:eu-west-1:1:key/x"]);
        }
    }
    let mut used = BTreeSet::new();
    for request in requests {
        for needed in needs(request, kms) {
            // Nobody lists workspaces for a probe.
            if case.starts_with("Purpose::Doctor") && !needed.resource_is_of_probe() && lists {
                continue;
            }
            let statement = statements.iter().find(|it| allows(it, &needed));
            let statement = statement
                .unwrap_or_else(|| panic!("{case}: {needed:?} is not allowed: {statements:#?}"));
            used.insert((statement["Sid"].to_string(), needed.action));
        }
    }
    for statement in &statements {
        for action in statement["Action"].as_array().unwrap() {
            let one = (
                statement["Sid"].to_string(),
                action.as_str().unwrap().to_owned(),
            );
            // The fake store keeps no versions of what a probe makes.
            let is_of_versions = case.starts_with("Purpose::Doctor") && one.1.contains("Version");
            let is_needed = lists || is_of_versions || used.contains(&one);
            assert!(is_needed, "{case}: {one:?} is allowed for nothing");
        }
    }
    requests.len()
}

impl Needed {
    fn resource_is_of_probe(&self) -> bool {
        let context = self
            .context
            .as_ref()
            .is_some_and(|it| it.1.contains("-probe-"));
        context || self.resource.contains("-probe-") || self.action.starts_with("kms:")
    }
}
