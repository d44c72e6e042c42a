//! AWS's partitions, and the domains of their hosts.
//!
//! Without one table a new partition would be reached for states and not for credentials, or the other way round.

use Partition as P;

/// A part of AWS with regions, accounts and domains of its own.
pub(super) struct Partition {
    /// What the names of its regions begin with.
    regions: &'static str,
    /// The domain of its hosts. Source: `dnsSuffix` in AWS's partition table, which its SDKs carry.
    pub(super) dns: &'static str,
    /// The domain of its dualstack hosts, S3's apart. Source: `dualStackDnsSuffix` there.
    dual_stack: &'static str,
    /// IAM, which has one place for each partition. Source: the endpoint rules of AWS's SDKs for IAM.
    pub(super) iam: &'static [&'static str],
}

#[rustfmt::skip]
const PARTITIONS: &[Partition] = &[
    P { regions: "cn-", dns: "amazonaws.com.cn", dual_stack: "api.amazonwebservices.com.cn", iam: &["iam.cn-north-1.amazonaws.com.cn"] },
    P { regions: "eu-isoe-", dns: "cloud.adc-e.uk", dual_stack: "api.cloud-aws.adc-e.uk", iam: &["iam.eu-isoe-west-1.cloud.adc-e.uk"] },
    P { regions: "eusc-", dns: "amazonaws.eu", dual_stack: "api.amazonwebservices.eu", iam: &["iam.eusc-de-east-1.amazonaws.eu"] },
    P { regions: "us-gov-", dns: "amazonaws.com", dual_stack: "api.aws", iam: &["iam.us-gov.amazonaws.com", "iam.us-gov.api.aws"] },
    P { regions: "us-iso-", dns: "c2s.ic.gov", dual_stack: "api.aws.ic.gov", iam: &["iam.us-iso-east-1.c2s.ic.gov"] },
    P { regions: "us-isob-", dns: "sc2s.sgov.gov", dual_stack: "api.aws.scloud", iam: &["iam.us-isob-east-1.sc2s.sgov.gov"] },
    P { regions: "us-isof-", dns: "csp.hci.ic.gov", dual_stack: "api.aws.hci.ic.gov", iam: &["iam.us-isof-south-1.csp.hci.ic.gov"] },
];

/// The partition of all other regions, named `aws`.
const USUAL: Partition = Partition {
    regions: "",
    dns: "amazonaws.com",
    dual_stack: "api.aws",
    iam: &[
        "iam.amazonaws.com",
        "iam-fips.amazonaws.com",
        "iam.global.api.aws",
        "iam-fips.global.api.aws",
    ],
};

impl Partition {
    /// The partition of a region.
    pub(super) fn of(region: &str) -> &'static Self {
        let mut known = PARTITIONS.iter();
        known
            .find(|partition| region.starts_with(partition.regions))
            .unwrap_or(&USUAL)
    }
}

/// A service's hosts in a region: plain, FIPS, dualstack, both. A profile may switch between them.
pub(super) fn hosts(service: &str, region: &str) -> [String; 4] {
    let Partition {
        dns, dual_stack, ..
    } = Partition::of(region);
    [
        format!("{service}.{region}.{dns}"),
        format!("{service}-fips.{region}.{dns}"),
        format!("{service}.{region}.{dual_stack}"),
        format!("{service}-fips.{region}.{dual_stack}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_belongs_to_one_partition() {
        for (region, host) in [
            ("eu-west-1", "sts.eu-west-1.amazonaws.com"),
            ("eu-isoe-west-1", "sts.eu-isoe-west-1.cloud.adc-e.uk"),
            ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
            ("us-iso-east-1", "sts.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", "sts.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            assert_eq!(hosts("sts", region)[0], host);
        }
        for one in PARTITIONS {
            let same = |other: &&Partition| other.regions.starts_with(one.regions);
            assert_eq!(PARTITIONS.iter().filter(same).count(), 1, "{}", one.regions);
        }
    }
}
