//! Which store a backend block means, and what it locks with: what a verdict about a store is filed under.

use cofferdam::{Backend, Error, Grant};
use serde_json::Value;

/// What the domains of AWS's own endpoints end with, one for each partition.
const AWS_DOMAINS: &[&str] = &[
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".c2s.ic.gov",
    ".cloud.adc-e.uk",
    ".csp.hci.ic.gov",
    ".sc2s.sgov.gov",
];

/// A bucket behind an endpoint, and the places of its locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// URL of the S3 service. Empty when the component does not tell.
    pub(crate) endpoint: String,
    pub(crate) bucket: String,
    /// Whether locks are objects in the bucket.
    pub(crate) lockfile: bool,
    /// The DynamoDB table of the locks.
    pub(crate) table: Option<String>,
}

impl Site {
    /// As the component resolves the block.
    pub(crate) async fn of(backend: &Backend, config: &Value) -> Result<Self, Error> {
        let explained = backend.explain(config, &Grant::local()).await?;
        // An explanation in other words than these leaves the endpoint unknown.
        let argument = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
        Ok(Self {
            endpoint: explained["endpoints"]["s3"]["url"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            bucket: argument("bucket").to_owned(),
            lockfile: explained["locking"]["lockfile"] == true,
            table: Some(argument("dynamodb_table"))
                .filter(|table| !table.is_empty())
                .map(str::to_owned),
        })
    }

    /// The places that a lock is taken in, as holders name them.
    pub(crate) fn places(&self) -> Vec<&'static str> {
        let s3 = self.lockfile.then_some("s3");
        let table = self.table.as_ref().map(|_| "dynamodb");
        s3.into_iter().chain(table).collect()
    }

    /// Whether the endpoint is AWS's own, whose conditional writes are known to be honoured.
    pub(crate) fn is_aws(&self) -> bool {
        let Some(rest) = self.endpoint.strip_prefix("https://") else {
            return false;
        };
        let host = rest.split([':', '/']).next().unwrap_or_default();
        AWS_DOMAINS.iter().any(|domain| host.ends_with(domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aws_itself_counts_as_aws() {
        for (endpoint, is_aws) in [
            ("https://s3.eu-west-1.amazonaws.com", true),
            ("https://s3.cn-north-1.amazonaws.com.cn", true),
            (
                "https://bucket.vpce-1.s3.eu-west-1.vpce.amazonaws.com:443/x",
                true,
            ),
            ("https://s3.eu-west-1.amazonaws.com.example", false),
            ("https://example/.amazonaws.com", false),
            ("https://notamazonaws.com", false),
            ("http://s3.eu-west-1.amazonaws.com", false),
            ("", false),
        ] {
            let site = Site {
                endpoint: endpoint.to_owned(),
                bucket: "b".to_owned(),
                lockfile: true,
                table: None,
            };
            assert_eq!(site.is_aws(), is_aws, "{endpoint}");
        }
    }
}
