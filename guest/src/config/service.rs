//! Where AWS's services are, where nobody says otherwise.
//!
//! Without the table of exceptions (IAM is one for a whole partition, GovCloud's plain endpoints are its FIPS
//! endpoints, DynamoDB's region `local` is a host), credentials would go to hosts that do not exist; and who orders
//! validated cryptography would get a host without it. Source: the endpoint rules that AWS's SDKs share.

use std::borrow::Cow;

use super::endpoint::{self, Endpoint};
use super::region::{self, Partition};
use super::settings::ServiceLocation;

/// A service that has an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// Tables.
    DynamoDb,
    /// Users and roles.
    Iam,
    /// SSO-OIDC, which renews the tokens of AWS IAM Identity Center.
    Oidc,
    /// Buckets.
    S3,
    /// The portal of AWS IAM Identity Center, which hands out credentials for such a token.
    SsoPortal,
    /// The security token service.
    Sts,
}

/// Which of a service's endpoints is wanted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Variant {
    /// One with validated cryptography.
    pub fips: bool,
    /// One that has IPv6 addresses too.
    pub dualstack: bool,
}

/// What block and environment say of the variant. None: the profile decides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) fips: Option<bool>,
    pub(crate) dualstack: Option<bool>,
}

/// An endpoint of somebody's choice.
#[derive(Clone, Copy)]
pub(crate) struct Custom<'a> {
    pub(crate) url: &'a str,
    /// It is the SDK's affair, which minds variants: it is named for all services at once, or by a profile, or it is
    /// S3's and comes from `AWS_ENDPOINT_URL_S3`. One that Terraform itself looks at is taken as it is.
    pub(crate) is_shared: bool,
}

impl Variant {
    /// A region's real name. `fips-X` and `X-fips` ask for FIPS endpoints of X.
    pub(super) fn of_region(self, region: &str) -> (Cow<'_, str>, Self) {
        if !["fips-", "-fips"].iter().any(|mark| region.contains(mark)) {
            return (Cow::Borrowed(region), self);
        }
        let plain = region.replace("-fips-", "-").replace("fips-", "");
        let plain = plain.replace("-fips", "");
        (Cow::Owned(plain), Self { fips: true, ..self })
    }
}

impl Service {
    /// Where the service is in a region. Always `https`, but for DynamoDB's region `local`.
    ///
    /// # Errors
    /// The region cannot be a part of a host name, or has no such endpoint.
    pub fn location(self, region: &str, variant: Variant) -> Result<ServiceLocation, String> {
        self.locate(region, variant, None)
    }

    /// Where the service is: at an endpoint of somebody's choice, or at AWS's own.
    ///
    /// # Errors
    /// The URL cannot be used, the region cannot be signed for, or endpoint and variant exclude each other.
    pub(crate) fn locate(
        self,
        region: &str,
        variant: Variant,
        custom: Option<Custom<'_>>,
    ) -> Result<ServiceLocation, String> {
        if !region::is_host_label(region) {
            return Err(format!("{region:?} is no name of a region"));
        }
        if let Some(reason) = self.refusal(region, variant, custom) {
            return Err(reason.to_owned());
        }
        let usual = self.place(region, variant);
        match custom {
            None => Ok(usual),
            Some(custom) => self.at(custom.url, usual.region),
        }
    }

    /// The service at an endpoint of somebody's choice.
    fn at(self, url: &str, region: String) -> Result<ServiceLocation, String> {
        let complete = match url.contains("://") {
            true => url.to_owned(),
            false => format!("https://{url}"),
        };
        let endpoint = Endpoint::parse(&complete).map_err(|reason| {
            let shown = endpoint::redacted(url);
            format!(
                "the endpoint {shown:?} of {} cannot be used: {reason}",
                self.name()
            )
        })?;
        let path = match endpoint.path.as_str() {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        Ok(ServiceLocation {
            scheme: endpoint.scheme.to_owned(),
            authority: endpoint.authority(),
            path,
            region,
        })
    }

    /// Why there is no such endpoint, in the SDK's words where it has any.
    pub(super) fn refusal(
        self,
        region: &str,
        variant: Variant,
        custom: Option<Custom<'_>>,
    ) -> Option<&'static str> {
        let (region, Variant { fips, dualstack }) = variant.of_region(region);
        let partition = region::partition(&region);
        match (self, custom) {
            _ if !fips && !dualstack => None,
            (_, Some(custom)) if !custom.is_shared => None,
            (Service::S3, Some(_)) if dualstack => {
                Some("Cannot set dual-stack in combination with a custom endpoint.")
            }
            (Service::S3, Some(_)) => Some("A custom endpoint cannot be combined with FIPS"),
            (_, Some(_)) if fips => {
                Some("Invalid Configuration: FIPS and custom endpoint are not supported")
            }
            (_, Some(_)) => {
                Some("Invalid Configuration: Dualstack and custom endpoint are not supported")
            }
            (Service::S3, None) if fips && partition.name == "aws-cn" => {
                Some("Partition does not support FIPS")
            }
            (Service::DynamoDb, None) if region == "local" && fips => {
                Some("Invalid Configuration: FIPS and local endpoint are not supported")
            }
            (Service::DynamoDb, None) if region == "local" => {
                Some("Invalid Configuration: Dualstack and local endpoint are not supported")
            }
            (Service::Iam, None) if !matches!(partition.name, "aws" | "aws-us-gov") => {
                Some("IAM has neither FIPS nor dualstack endpoints in this partition")
            }
            _ => None,
        }
    }

    /// AWS's own place, there being one.
    pub(super) fn place(self, region: &str, variant: Variant) -> ServiceLocation {
        let (region, variant) = variant.of_region(region);
        let region = region.as_ref();
        let partition = region::partition(region);
        let (scheme, authority, signed_for) = match self {
            Service::DynamoDb if region == "local" => {
                ("http", "localhost:8000".to_owned(), "us-east-1")
            }
            Service::Sts if region == "aws-global" => {
                ("https", "sts.amazonaws.com".to_owned(), "us-east-1")
            }
            Service::Iam => {
                let region = partition.iam_region;
                ("https", iam(partition, variant), region)
            }
            Service::S3 => ("https", s3_host("s3", region, variant), region),
            Service::DynamoDb | Service::Oidc | Service::SsoPortal | Service::Sts => {
                let host = regional(self.host_prefix(), region, partition, variant);
                ("https", host, region)
            }
        };
        ServiceLocation {
            scheme: scheme.to_owned(),
            authority,
            path: "/".to_owned(),
            region: signed_for.to_owned(),
        }
    }

    /// The name that configuration knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Service::DynamoDb => "dynamodb",
            Service::Iam => "iam",
            Service::Oidc => "sso_oidc",
            Service::S3 => "s3",
            Service::SsoPortal => "sso",
            Service::Sts => "sts",
        }
    }

    fn host_prefix(self) -> &'static str {
        match self {
            Service::Oidc => "oidc",
            Service::SsoPortal => "portal.sso",
            _ => self.name(),
        }
    }
}

/// A host of S3's, known by `s3` or `s3-accesspoint`. The region is a real one.
pub(super) fn s3_host(name: &str, region: &str, variant: Variant) -> String {
    let fips = if variant.fips { "-fips" } else { "" };
    let dualstack = if variant.dualstack { ".dualstack" } else { "" };
    let suffix = region::dns_suffix(region);
    format!("{name}{fips}{dualstack}.{region}.{suffix}")
}

fn regional(name: &str, region: &str, partition: &Partition, variant: Variant) -> String {
    // GovCloud's plain endpoints are its FIPS endpoints.
    let infix = if variant.fips && (variant.dualstack || partition.name != "aws-us-gov") {
        "-fips"
    } else {
        ""
    };
    let suffix = if variant.dualstack {
        partition.dualstack_suffix
    } else {
        partition.dns_suffix
    };
    format!("{name}{infix}.{region}.{suffix}")
}

fn iam(partition: &Partition, variant: Variant) -> String {
    let region = partition.iam_region;
    let host = match (region, variant.fips, variant.dualstack) {
        ("us-east-1", false, false) => "iam.amazonaws.com",
        ("us-east-1", true, false) => "iam-fips.amazonaws.com",
        ("us-east-1", false, true) => "iam.global.api.aws",
        ("us-east-1", true, true) => "iam-fips.global.api.aws",
        ("us-gov-west-1", _, false) => "iam.us-gov.amazonaws.com",
        ("us-gov-west-1", _, true) => "iam.us-gov.api.aws",
        _ => return regional("iam", region, partition, Variant::default()),
    };
    host.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Service::{DynamoDb, Iam, Oidc, S3, SsoPortal, Sts};

    const PLAIN: Variant = Variant {
        fips: false,
        dualstack: false,
    };
    const FIPS: Variant = Variant {
        fips: true,
        ..PLAIN
    };
    const DUAL: Variant = Variant {
        dualstack: true,
        ..PLAIN
    };
    const BOTH: Variant = Variant { fips: true, ..DUAL };

    /// Service, region, the four endpoints (plain, FIPS, dualstack, both) and the region to sign for.
    #[rustfmt::skip]
    const TABLE: &[(Service, &str, [&str; 4], &str)] = &[
        (S3, "eu-west-1", ["s3.eu-west-1.amazonaws.com", "s3-fips.eu-west-1.amazonaws.com",
            "s3.dualstack.eu-west-1.amazonaws.com", "s3-fips.dualstack.eu-west-1.amazonaws.com"], "eu-west-1"),
        (S3, "us-gov-west-1", ["s3.us-gov-west-1.amazonaws.com", "s3-fips.us-gov-west-1.amazonaws.com",
            "s3.dualstack.us-gov-west-1.amazonaws.com", "s3-fips.dualstack.us-gov-west-1.amazonaws.com"], "us-gov-west-1"),
        (S3, "cn-north-1", ["s3.cn-north-1.amazonaws.com.cn", "Partition does not support FIPS",
            "s3.dualstack.cn-north-1.amazonaws.com.cn", "Partition does not support FIPS"], "cn-north-1"),
        (S3, "us-iso-east-1", ["s3.us-iso-east-1.c2s.ic.gov", "s3-fips.us-iso-east-1.c2s.ic.gov",
            "s3.dualstack.us-iso-east-1.c2s.ic.gov", "s3-fips.dualstack.us-iso-east-1.c2s.ic.gov"], "us-iso-east-1"),
        (DynamoDb, "eu-west-1", ["dynamodb.eu-west-1.amazonaws.com", "dynamodb-fips.eu-west-1.amazonaws.com",
            "dynamodb.eu-west-1.api.aws", "dynamodb-fips.eu-west-1.api.aws"], "eu-west-1"),
        (DynamoDb, "us-gov-east-1", ["dynamodb.us-gov-east-1.amazonaws.com", "dynamodb.us-gov-east-1.amazonaws.com",
            "dynamodb.us-gov-east-1.api.aws", "dynamodb-fips.us-gov-east-1.api.aws"], "us-gov-east-1"),
        (DynamoDb, "cn-north-1", ["dynamodb.cn-north-1.amazonaws.com.cn", "dynamodb-fips.cn-north-1.amazonaws.com.cn",
            "dynamodb.cn-north-1.api.amazonwebservices.com.cn",
            "dynamodb-fips.cn-north-1.api.amazonwebservices.com.cn"], "cn-north-1"),
        (DynamoDb, "local", ["localhost:8000",
            "Invalid Configuration: FIPS and local endpoint are not supported",
            "Invalid Configuration: Dualstack and local endpoint are not supported",
            "Invalid Configuration: FIPS and local endpoint are not supported"], "us-east-1"),
        (Sts, "eu-west-1", ["sts.eu-west-1.amazonaws.com", "sts-fips.eu-west-1.amazonaws.com",
            "sts.eu-west-1.api.aws", "sts-fips.eu-west-1.api.aws"], "eu-west-1"),
        (Sts, "us-gov-east-1", ["sts.us-gov-east-1.amazonaws.com", "sts.us-gov-east-1.amazonaws.com",
            "sts.us-gov-east-1.api.aws", "sts-fips.us-gov-east-1.api.aws"], "us-gov-east-1"),
        (Sts, "us-isob-west-1", ["sts.us-isob-west-1.sc2s.sgov.gov", "sts-fips.us-isob-west-1.sc2s.sgov.gov",
            "sts.us-isob-west-1.api.aws.scloud", "sts-fips.us-isob-west-1.api.aws.scloud"], "us-isob-west-1"),
        (Iam, "eu-west-1", ["iam.amazonaws.com", "iam-fips.amazonaws.com",
            "iam.global.api.aws", "iam-fips.global.api.aws"], "us-east-1"),
        (Iam, "us-gov-east-1", ["iam.us-gov.amazonaws.com", "iam.us-gov.amazonaws.com",
            "iam.us-gov.api.aws", "iam.us-gov.api.aws"], "us-gov-west-1"),
        (Iam, "cn-northwest-1", ["iam.cn-north-1.amazonaws.com.cn", NO_IAM, NO_IAM, NO_IAM], "cn-north-1"),
        (Iam, "eusc-de-east-1", ["iam.eusc-de-east-1.amazonaws.eu", NO_IAM, NO_IAM, NO_IAM], "eusc-de-east-1"),
        (Iam, "us-isof-east-1", ["iam.us-isof-south-1.csp.hci.ic.gov", NO_IAM, NO_IAM, NO_IAM], "us-isof-south-1"),
        (SsoPortal, "eu-west-1", ["portal.sso.eu-west-1.amazonaws.com", "portal.sso-fips.eu-west-1.amazonaws.com",
            "portal.sso.eu-west-1.api.aws", "portal.sso-fips.eu-west-1.api.aws"], "eu-west-1"),
        (SsoPortal, "us-gov-west-1", ["portal.sso.us-gov-west-1.amazonaws.com", "portal.sso.us-gov-west-1.amazonaws.com",
            "portal.sso.us-gov-west-1.api.aws", "portal.sso-fips.us-gov-west-1.api.aws"], "us-gov-west-1"),
        (Oidc, "eusc-de-east-1", ["oidc.eusc-de-east-1.amazonaws.eu", "oidc-fips.eusc-de-east-1.amazonaws.eu",
            "oidc.eusc-de-east-1.api.amazonwebservices.eu", "oidc-fips.eusc-de-east-1.api.amazonwebservices.eu"],
            "eusc-de-east-1"),
        (Oidc, "eu-isoe-west-1", ["oidc.eu-isoe-west-1.cloud.adc-e.uk", "oidc-fips.eu-isoe-west-1.cloud.adc-e.uk",
            "oidc.eu-isoe-west-1.api.cloud-aws.adc-e.uk", "oidc-fips.eu-isoe-west-1.api.cloud-aws.adc-e.uk"],
            "eu-isoe-west-1"),
    ];
    const NO_IAM: &str = "IAM has neither FIPS nor dualstack endpoints in this partition";

    #[test]
    fn every_service_is_where_the_sdks_look_for_it() {
        for (service, region, expected, signed_for) in TABLE {
            for (variant, expected) in [PLAIN, FIPS, DUAL, BOTH].into_iter().zip(expected) {
                match service.location(region, variant) {
                    Ok(place) => {
                        assert_eq!(place.authority, *expected, "{region}");
                        assert_eq!(place.region, *signed_for, "{region}");
                        let is_local = *region == "local";
                        assert_eq!(place.scheme, if is_local { "http" } else { "https" });
                    }
                    Err(reason) => assert_eq!(reason, *expected, "{region}"),
                }
            }
        }
        let global = Sts.location("aws-global", PLAIN).unwrap();
        assert_eq!(global.authority, "sts.amazonaws.com");
        assert_eq!(global.region, "us-east-1");
    }

    #[test]
    fn a_region_may_ask_for_fips_by_its_name() {
        for (region, host, signed_for) in [
            ("fips-us-east-1", "s3-fips.us-east-1", "us-east-1"),
            ("us-east-1-fips", "s3-fips.us-east-1", "us-east-1"),
            ("us-fips-east-1", "s3-fips.us-east-1", "us-east-1"),
            ("us-east-1", "s3.us-east-1", "us-east-1"),
        ] {
            let place = S3.location(region, PLAIN).unwrap();
            assert_eq!(place.authority, format!("{host}.amazonaws.com"));
            assert_eq!(place.region, signed_for);
        }
        assert!(S3.location("fips-cn-north-1", PLAIN).is_err());
        let own = Custom {
            url: "https://s3.example",
            is_shared: false,
        };
        let place = S3.locate("fips-us-east-1", PLAIN, Some(own)).unwrap();
        assert_eq!(place.region, "us-east-1");
    }

    #[test]
    fn an_endpoint_for_all_services_excludes_variants_and_one_for_this_service_passes_over_them() {
        let custom = |is_shared| {
            let url = "http://store.example";
            Some(Custom { url, is_shared })
        };
        for (service, variant, expected) in [
            (S3, FIPS, "A custom endpoint cannot be combined with FIPS"),
            (
                S3,
                DUAL,
                "Cannot set dual-stack in combination with a custom endpoint.",
            ),
            (
                S3,
                BOTH,
                "Cannot set dual-stack in combination with a custom endpoint.",
            ),
            (
                Sts,
                BOTH,
                "Invalid Configuration: FIPS and custom endpoint are not supported",
            ),
            (
                DynamoDb,
                DUAL,
                "Invalid Configuration: Dualstack and custom endpoint are not supported",
            ),
        ] {
            let refused = service.locate("eu-west-1", variant, custom(true));
            assert_eq!(refused.unwrap_err(), expected);
            let place = service.locate("eu-west-1", variant, custom(false)).unwrap();
            assert_eq!(place.url(), "http://store.example");
            let place = service.locate("eu-west-1", PLAIN, custom(true)).unwrap();
            assert_eq!(place.url(), "http://store.example");
        }
    }

    #[test]
    fn a_region_that_would_change_the_host_is_refused() {
        for region in ["", "evil.example/#", "a.b", "a@b"] {
            assert!(SsoPortal.location(region, PLAIN).is_err());
        }
    }
}
