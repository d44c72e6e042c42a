//! `iam-policy`: the least that AWS must allow for the configuration to work.
//!
//! Standard output is the policy alone, fit for `aws iam put-role-policy --policy-document`.

use cofferdam::{Grant, PolicyOptions, Purpose};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::arguments::{IamPolicyOptions, PolicyPurpose};
use crate::failure::Failure;
use crate::output::{data, wrapped};
use crate::session::Session;

pub(crate) async fn run(session: &Session, options: &IamPolicyOptions) -> Result<(), Failure> {
    let config = Value::Object(session.block()?.config);
    let mut asked = PolicyOptions::new(match options.purpose {
        PolicyPurpose::Apply => Purpose::Apply,
        PolicyPurpose::Doctor => Purpose::Doctor,
        PolicyPurpose::Outputs => Purpose::Outputs,
        PolicyPurpose::Plan => Purpose::Plan,
        PolicyPurpose::Repair => Purpose::Repair,
    })
    .delete_workspaces(options.delete_workspaces)
    .even_aws(options.even_aws);
    if !options.all_workspaces {
        asked = asked.workspaces(match options.workspaces.is_empty() {
            true => vec![session.workspace()?],
            false => options.workspaces.clone(),
        });
    }
    for principal in &options.principal {
        asked = asked.principal(principal);
    }
    let policy = session
        .backend()
        .await?
        .least_policy(&config, &Grant::local(), &asked)
        .await
        .map_err(|error| Failure::store("Cannot work out the policy", &error))?;
    let document = serde_json::to_string_pretty(&InOrder(&policy.document));
    let document =
        document.map_err(|error| Failure::new("Cannot print the policy", error.to_string()))?;
    data(format!("{document}\n").as_bytes())?;
    for note in &policy.notes {
        let note = wrapped(&format!("Note: {note}")).join("\n");
        session.output.message(&format!("\n{note}"));
    }
    Ok(())
}

/// JSON with the keys of objects in the order in which AWS's documents have those of policies.
struct InOrder<'a>(&'a Value);

const ORDER: [&str; 8] = [
    "Version",
    "Statement",
    "Sid",
    "Effect",
    "Principal",
    "Action",
    "Resource",
    "Condition",
];

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => serializer.collect_seq(items.iter().map(InOrder)),
            Value::Object(object) => {
                let place = |key: &String| ORDER.iter().position(|it| it == key);
                let mut entries: Vec<_> = object.iter().collect();
                entries.sort_by_key(|(key, _)| place(key).unwrap_or(ORDER.len()));
                serializer.collect_map(entries.into_iter().map(|(key, it)| (key, InOrder(it))))
            }
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_reads_from_version_to_condition() {
        let policy = json!({"Statement": [{"Action": ["b", "a"], "Condition": {"x": 1}, "Effect": "Allow",
            "Resource": [], "Sid": "s", "Unknown": null}], "Version": "2012-10-17"});
        let text = serde_json::to_string(&InOrder(&policy)).unwrap();
        let expected = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":\"s\",\"Effect\":\"Allow\",\
            \"Action\":[\"b\",\"a\"],\"Resource\":[],\"Condition\":{\"x\":1},\"Unknown\":null}]}";
        assert_eq!(text, expected);
    }
}
