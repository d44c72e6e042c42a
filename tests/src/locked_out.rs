//! Terraform's own lock, which Terraform takes for somebody else's.
//!
//! When the answer to its lock in the table gets lost, Terraform sends it again, finds its own item, gives up and leaves the
//! item behind: the first row of `docs/incumbents.md`. A busy server loses an answer once in hundreds of runs, and a
//! test that is about something else must not fail for it.

use jiff::Timestamp;
use serde_json::Value;

use crate::site::Table;
use crate::terraform::Run;
use crate::{RawDynamoDb, Site};

/// Removes the item for which a command was refused, if that command made it: it is younger than the command, which began
/// at this time. Where it did not, whatever is there stays. Answers whether it is worth another try.
pub(crate) async fn break_own_lock(run: &Run, begun: Timestamp, block: &Value) -> bool {
    let text = run.text();
    match (own_item(&text, begun), table(block)) {
        (Some(item), Some(site)) => {
            let removed = RawDynamoDb::new(&site).delete(item).await;
            println!("Terraform locked itself out of {item}: the lock is removed.");
            removed.status == 200
        }
        _ => false,
    }
}

/// The key of the item.
fn own_item(text: &str, begun: Timestamp) -> Option<&str> {
    let is_refused = text.contains("ConditionalCheckFailedException");
    let (_, lock) = text.split_once("Lock Info:").filter(|_| is_refused)?;
    let (item, rest) = lock.split_once("Path: ")?.1.split_once(" Operation: ")?;
    let (created, _) = rest.split_once("Created: ")?.1.split_once(" +0000 UTC")?;
    let created: Timestamp = format!("{}Z", created.replace(' ', "T")).parse().ok()?;
    (created >= begun).then_some(item)
}

/// The table of an `s3` block that says all that is needed.
fn table(block: &Value) -> Option<Site> {
    let text = |name: &str| Some(block[name].as_str()?.to_owned());
    let endpoint = block["endpoints"]["dynamodb"].as_str()?;
    Some(Site {
        url: endpoint.to_owned(),
        bucket: text("bucket")?,
        region: text("region")?,
        access_key_id: text("access_key")?,
        secret_access_key: text("secret_key")?,
        dynamodb: Some(Table {
            url: endpoint.to_owned(),
            name: text("dynamodb_table")?,
        }),
        ..Site::open_to_root("Terraform's table", String::new())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = "operation error DynamoDB: PutItem, https response error StatusCode: 400, RequestID: 1, \
         ConditionalCheckFailedException: The conditional request failed Lock Info: ID: 6e74ca72 Path: b/k Operation: init \
         Who: a@b Version: 1.11.4 Created: 2026-11-23 23:12:00.128657438 +0000 UTC Info:";

    #[test]
    fn only_a_lock_that_is_younger_than_the_command_is_its_own() {
        let at = |text: &str| text.parse().expect("a time");
        let before = at("2026-11-23T23:12:00Z");
        assert_eq!(own_item(REFUSED, before), Some("b/k"));
        assert_eq!(own_item(REFUSED, at("2026-11-23T23:12:01Z")), None);
        let other = REFUSED.replace("ConditionalCheckFailed", "ThrottlingException");
        assert_eq!(own_item(&other, before), None);
        assert_eq!(own_item("", before), None);
    }
}
