//! AWS's partitions and their regions.
//!
//! Without the table, a misspelt region turns into a host name that does not exist, and the person
//! reads about DNS instead of about the region. Source: the partition metadata that AWS's SDKs
//! share (`partitions.json`), as Terraform's backend has it.

pub(crate) struct Partition {
    /// As ARNs have it.
    pub(crate) name: &'static str,
    pub(super) dns_suffix: &'static str,
    /// What the names of dualstack endpoints end with.
    pub(super) dualstack_suffix: &'static str,
    /// IAM is one for the whole partition; requests to it are signed for this region.
    pub(super) iam_region: &'static str,
    /// What its regions begin with; `-<word>-<number>` follows.
    prefixes: &'static [&'static str],
    regions: &'static [&'static str],
}

const PARTITIONS: &[Partition] = &[
    Partition {
        name: "aws",
        dns_suffix: "amazonaws.com",
        dualstack_suffix: "api.aws",
        iam_region: "us-east-1",
        prefixes: &["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"],
        regions: &[
            "af-south-1",
            "ap-east-1",
            "ap-east-2",
            "ap-northeast-1",
            "ap-northeast-2",
            "ap-northeast-3",
            "ap-south-1",
            "ap-south-2",
            "ap-southeast-1",
            "ap-southeast-2",
            "ap-southeast-3",
            "ap-southeast-4",
            "ap-southeast-5",
            "ap-southeast-6",
            "ap-southeast-7",
            "ca-central-1",
            "ca-west-1",
            "eu-central-1",
            "eu-central-2",
            "eu-north-1",
            "eu-south-1",
            "eu-south-2",
            "eu-west-1",
            "eu-west-2",
            "eu-west-3",
            "il-central-1",
            "me-central-1",
            "me-south-1",
            "mx-central-1",
            "sa-east-1",
            "us-east-1",
            "us-east-2",
            "us-west-1",
            "us-west-2",
        ],
    },
    Partition {
        name: "aws-cn",
        dns_suffix: "amazonaws.com.cn",
        dualstack_suffix: "api.amazonwebservices.com.cn",
        iam_region: "cn-north-1",
        prefixes: &["cn"],
        regions: &["cn-north-1", "cn-northwest-1"],
    },
    Partition {
        name: "aws-us-gov",
        dns_suffix: "amazonaws.com",
        dualstack_suffix: "api.aws",
        iam_region: "us-gov-west-1",
        prefixes: &["us-gov"],
        regions: &["us-gov-east-1", "us-gov-west-1"],
    },
    Partition {
        name: "aws-eusc",
        dns_suffix: "amazonaws.eu",
        dualstack_suffix: "api.amazonwebservices.eu",
        iam_region: "eusc-de-east-1",
        prefixes: &["eusc-de"],
        regions: &["eusc-de-east-1"],
    },
    Partition {
        name: "aws-iso",
        dns_suffix: "c2s.ic.gov",
        dualstack_suffix: "api.aws.ic.gov",
        iam_region: "us-iso-east-1",
        prefixes: &["us-iso"],
        regions: &["us-iso-east-1", "us-iso-west-1"],
    },
    Partition {
        name: "aws-iso-b",
        dns_suffix: "sc2s.sgov.gov",
        dualstack_suffix: "api.aws.scloud",
        iam_region: "us-isob-east-1",
        prefixes: &["us-isob"],
        regions: &["us-isob-east-1", "us-isob-west-1"],
    },
    Partition {
        name: "aws-iso-e",
        dns_suffix: "cloud.adc-e.uk",
        dualstack_suffix: "api.cloud-aws.adc-e.uk",
        iam_region: "eu-isoe-west-1",
        prefixes: &["eu-isoe"],
        regions: &["eu-isoe-west-1"],
    },
    Partition {
        name: "aws-iso-f",
        dns_suffix: "csp.hci.ic.gov",
        dualstack_suffix: "api.aws.hci.ic.gov",
        iam_region: "us-isof-south-1",
        prefixes: &["us-isof"],
        regions: &["us-isof-east-1", "us-isof-south-1"],
    },
];

/// Whether AWS has a region of this name, as far as the table knows.
pub(super) fn is_known(region: &str) -> bool {
    PARTITIONS
        .iter()
        .any(|partition| partition.regions.contains(&region))
}

/// The partition of a region. A region that no partition can have is taken for one of AWS's first
/// partition, as the SDKs do.
pub(crate) fn partition(region: &str) -> &'static Partition {
    PARTITIONS
        .iter()
        .find(|partition| {
            partition
                .prefixes
                .iter()
                .any(|prefix| has_form(region, prefix))
        })
        .unwrap_or(&PARTITIONS[0])
}

/// What the host names of AWS's services end with in this region.
pub(super) fn dns_suffix(region: &str) -> &'static str {
    partition(region).dns_suffix
}

/// Whether a text can be one label of a host name. A region becomes one, so that anything else
/// could send signed requests to a host of somebody's choice.
pub(crate) fn is_host_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Whether a region has the form `<prefix>-<word>-<number>`.
fn has_form(region: &str, prefix: &str) -> bool {
    let place = region
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.split_once('-'));
    place.is_some_and(|(word, number)| {
        !word.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_is_known_and_has_the_form_of_its_own_partition_only() {
        let mut count = 0;
        for partition in PARTITIONS {
            for region in partition.regions {
                assert!(is_known(region), "{region}");
                assert!(is_host_label(region), "{region}");
                assert_eq!(dns_suffix(region), partition.dns_suffix, "{region}");
                let forms = PARTITIONS.iter().flat_map(|other| other.prefixes);
                let forms = forms.filter(|prefix| has_form(region, prefix)).count();
                assert_eq!(forms, 1, "{region}");
                count += 1;
            }
        }
        assert_eq!(count, 46);
    }

    #[test]
    fn a_new_region_is_recognised_by_its_form_and_a_strange_one_falls_to_the_first_partition() {
        for (region, suffix) in [
            ("eu-west-9", "amazonaws.com"),
            ("cn-south-1", "amazonaws.com.cn"),
            ("us-gov-north-12", "amazonaws.com"),
            ("eusc-de-west-1", "amazonaws.eu"),
            ("eu-isoe-north-1", "cloud.adc-e.uk"),
            ("garage", "amazonaws.com"),
            ("cn-north", "amazonaws.com"),
        ] {
            assert!(!is_known(region), "{region}");
            assert_eq!(dns_suffix(region), suffix, "{region}");
        }
    }

    #[test]
    fn pseudo_regions_are_not_known() {
        for region in ["aws-global", "aws-cn-global", "US-EAST-1", "us-east-1 ", ""] {
            assert!(!is_known(region), "{region:?}");
        }
    }

    #[test]
    fn what_could_change_the_host_is_no_label() {
        for text in ["", "-a", "a-", "a.b", "a/b", "a@b", "a#", "é", "a b", "a:1"] {
            assert!(!is_host_label(text), "{text:?}");
        }
        assert!(!is_host_label(&"a".repeat(64)));
        assert!(is_host_label(&"a".repeat(63)));
    }
}
