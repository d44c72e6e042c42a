//! Where AWS's services are, where nobody says otherwise.
//!
//! Without the table of exceptions (IAM is one for a whole partition, GovCloud's plain endpoints are its FIPS
//! endpoints, DynamoDB's region `local` is a host), credentials would go to hosts that do not exist. Source: the
//! endpoint rules that AWS's SDKs share.

use super::endpoint::{self, Endpoint};
use super::region::{self, Partition};
use super::settings::ServiceLocation;

/// A service that has an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// Users and roles.
    Iam,
    /// SSO-OIDC, which renews the tokens of AWS IAM Identity Center.
    Oidc,
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

impl Service {
    /// Where the service is in a region, which must be fit for a host name. Always `https`.
    ///
    /// # Errors
    /// The region cannot be a part of a host name.
    pub fn location(self, region: &str, variant: Variant) -> Result<ServiceLocation, String> {
        if !region::is_host_label(region) {
            return Err(format!("{region:?} is no name of a region"));
        }
        let partition = region::partition(region);
        let (authority, region) = match self {
            Service::Iam => iam(partition, variant),
            Service::Oidc => (regional("oidc", region, partition, variant), region),
            Service::SsoPortal => (regional("portal.sso", region, partition, variant), region),
            Service::Sts if region == "aws-global" => ("sts.amazonaws.com".to_owned(), "us-east-1"),
            Service::Sts => (regional("sts", region, partition, variant), region),
        };
        Ok(ServiceLocation {
            scheme: "https".to_owned(),
            authority,
            path: "/".to_owned(),
            region: region.to_owned(),
        })
    }

    /// The service at an endpoint of somebody's choice.
    ///
    /// # Errors
    /// The URL cannot be used, or the region cannot be signed for.
    pub fn at(self, url: &str, region: &str) -> Result<ServiceLocation, String> {
        let default = self.location(region, Variant::default())?;
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
            region: default.region,
        })
    }

    /// The name that signatures and configuration know it by.
    pub fn name(self) -> &'static str {
        match self {
            Service::Iam => "iam",
            Service::Oidc => "sso_oidc",
            Service::SsoPortal => "sso",
            Service::Sts => "sts",
        }
    }
}

fn regional(name: &str, region: &str, partition: &Partition, variant: Variant) -> String {
    // GovCloud's plain endpoints are its FIPS endpoints.
    let infix = if variant.fips && (variant.dualstack || partition.iam_region != "us-gov-west-1") {
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

fn iam(partition: &Partition, variant: Variant) -> (String, &'static str) {
    let region = partition.iam_region;
    let host = match (region, variant.fips, variant.dualstack) {
        ("us-east-1", false, false) => "iam.amazonaws.com",
        ("us-east-1", true, false) => "iam-fips.amazonaws.com",
        ("us-east-1", false, true) => "iam.global.api.aws",
        ("us-east-1", true, true) => "iam-fips.global.api.aws",
        ("us-gov-west-1", _, false) => "iam.us-gov.amazonaws.com",
        ("us-gov-west-1", _, true) => "iam.us-gov.api.aws",
        _ => {
            return (
                regional("iam", region, partition, Variant::default()),
                region,
            );
        }
    };
    (host.to_owned(), region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_where_the_sdks_look_for_it() {
        let plain = Variant::default();
        let fips = Variant {
            fips: true,
            ..plain
        };
        let dual = Variant {
            dualstack: true,
            ..plain
        };
        let both = Variant {
            fips: true,
            dualstack: true,
        };
        use Service::{Iam, Oidc, SsoPortal, Sts};
        for (service, region, variant, authority, signed_for) in [
            (
                Sts,
                "eu-west-1",
                plain,
                "sts.eu-west-1.amazonaws.com",
                "eu-west-1",
            ),
            (
                Sts,
                "eu-west-1",
                fips,
                "sts-fips.eu-west-1.amazonaws.com",
                "eu-west-1",
            ),
            (Sts, "eu-west-1", dual, "sts.eu-west-1.api.aws", "eu-west-1"),
            (
                Sts,
                "eu-west-1",
                both,
                "sts-fips.eu-west-1.api.aws",
                "eu-west-1",
            ),
            (
                Sts,
                "us-gov-east-1",
                fips,
                "sts.us-gov-east-1.amazonaws.com",
                "us-gov-east-1",
            ),
            (
                Sts,
                "us-gov-east-1",
                both,
                "sts-fips.us-gov-east-1.api.aws",
                "us-gov-east-1",
            ),
            (
                Sts,
                "cn-north-1",
                plain,
                "sts.cn-north-1.amazonaws.com.cn",
                "cn-north-1",
            ),
            (Sts, "aws-global", plain, "sts.amazonaws.com", "us-east-1"),
            (Iam, "eu-west-1", plain, "iam.amazonaws.com", "us-east-1"),
            (
                Iam,
                "eu-west-1",
                fips,
                "iam-fips.amazonaws.com",
                "us-east-1",
            ),
            (Iam, "eu-west-1", dual, "iam.global.api.aws", "us-east-1"),
            (
                Iam,
                "eu-west-1",
                both,
                "iam-fips.global.api.aws",
                "us-east-1",
            ),
            (
                Iam,
                "cn-northwest-1",
                plain,
                "iam.cn-north-1.amazonaws.com.cn",
                "cn-north-1",
            ),
            (
                Iam,
                "us-gov-east-1",
                fips,
                "iam.us-gov.amazonaws.com",
                "us-gov-west-1",
            ),
            (
                Iam,
                "us-gov-east-1",
                both,
                "iam.us-gov.api.aws",
                "us-gov-west-1",
            ),
            (
                Iam,
                "us-isob-west-1",
                plain,
                "iam.us-isob-east-1.sc2s.sgov.gov",
                "us-isob-east-1",
            ),
            (
                SsoPortal,
                "eu-west-1",
                plain,
                "portal.sso.eu-west-1.amazonaws.com",
                "eu-west-1",
            ),
            (
                SsoPortal,
                "eu-west-1",
                fips,
                "portal.sso-fips.eu-west-1.amazonaws.com",
                "eu-west-1",
            ),
            (
                Oidc,
                "eusc-de-east-1",
                plain,
                "oidc.eusc-de-east-1.amazonaws.eu",
                "eusc-de-east-1",
            ),
            (
                Oidc,
                "eu-west-1",
                dual,
                "oidc.eu-west-1.api.aws",
                "eu-west-1",
            ),
        ] {
            let place = service.location(region, variant).unwrap();
            assert_eq!(place.authority, authority, "{region}");
            assert_eq!(place.region, signed_for, "{region}");
        }
    }

    #[test]
    fn a_region_that_would_change_the_host_is_refused() {
        for region in ["", "evil.example/#", "a.b", "a@b"] {
            assert!(
                Service::SsoPortal
                    .location(region, Variant::default())
                    .is_err()
            );
        }
    }
}
