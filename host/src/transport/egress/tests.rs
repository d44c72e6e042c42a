//! The judgement of requests and addresses, case by case.

use super::*;

fn check(rule: &str, method: &str, uri: &str) -> Result<Pass, Denied> {
    let egress = Egress::new(vec![rule.parse().unwrap()]);
    egress.check(&method.parse().unwrap(), &uri.parse().unwrap())
}

/// A rule of the host's own making, for https.
fn derived(method: Method, url: &str, reach: Reach) -> Egress {
    let rule = EgressRule::new(&[method], &url.parse().unwrap()).unwrap();
    Egress::new(vec![rule.reaching(reach)])
}

fn reached(egress: &Egress, method: Method, url: &str) -> bool {
    egress.check(&method, &url.parse().unwrap()).is_ok()
}

#[test]
fn a_rule_covers_its_methods_and_everything_under_its_path() {
    let rule = "GET,PUT https://s3.test/bucket/app/";
    let pass = check(rule, "PUT", "https://S3.test:443/bucket/app/state?x=1").unwrap();
    assert!(pass.private && pass.tables.is_empty());
    for (method, uri) in [
        ("DELETE", "https://s3.test/bucket/app/state"),
        ("GET", "http://s3.test/bucket/app/state"),
        ("GET", "https://s3.test:8443/bucket/app/state"),
        ("GET", "https://s3.test.evil/bucket/app/state"),
        ("GET", "https://s3.test/bucket/other/state"),
        ("GET", "https://s3.test/bucket/app/../other"),
        ("GET", "https://s3.test/bucket/app/%2e%2E/other"),
        ("GET", "https://s3.test/bucket/app/x%2f..%2fother"),
        ("GET", "https://s3.test@evil/bucket/app/state"),
        ("GET", "https://s3.test:80@evil/bucket/app/state"),
    ] {
        assert!(
            matches!(check(rule, method, uri), Err(Denied::Rule(_))),
            "{method} {uri}"
        );
    }
}

#[test]
fn a_rule_without_methods_opens_no_tunnel() {
    for (method, allowed) in [("PUT", true), ("CONNECT", false), ("TRACE", false)] {
        let checked = check("https://s3.test/", method, "https://s3.test/x");
        assert_eq!(checked.is_ok(), allowed, "{method}");
    }
}

#[test]
fn a_denied_request_names_the_rule_that_would_allow_it() {
    let (method, uri) = ("GET", "https://b.test/key?list-type=2");
    let Err(Denied::Rule(rule)) = check("https://a.test/", method, uri) else {
        panic!("it is denied")
    };
    assert_eq!(rule, "GET https://b.test/key");
    assert!(check(&rule, method, uri).is_ok());
}

/// The judgement that is made of a literal in the URL and of every address that a name resolves to.
#[test]
fn addresses_are_judged_in_every_spelling() {
    let private = [
        "0.0.0.0",
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::169.254.169.254",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
        "64:ff9b::10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:a9fe:a9fe::1",
        "2002:7f00:1::",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ];
    let public = [
        "1.1.1.1",
        "52.216.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "168.63.129.17",
        "172.15.255.255",
        "172.32.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "::ffff:52.216.0.1",
        "64:ff9b::34d8:1",
        "2002:34d8:1::1",
        "2600:1fa0::1",
    ];
    let judged = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        let url = match address {
            IpAddr::V4(v4) => format!("https://{v4}/key"),
            IpAddr::V6(v6) => format!("https://[{v6}]/key"),
        };
        let as_literal = derived(Method::GET, &url, Reach::Prefix)
            .check(&Method::GET, &url.parse().unwrap())
            .is_err_and(|denied| matches!(denied, Denied::Address(_)));
        assert_eq!(as_literal, is_private(address), "{address} as a literal");
        as_literal
    };
    for address in private {
        assert!(judged(address), "{address}");
    }
    for address in public {
        assert!(!judged(address), "{address}");
    }
}

/// What a URL's host may be written as, where C libraries read numbers.
#[test]
fn numbers_that_are_no_addresses_stay_names_for_the_resolver_to_judge() {
    for host in ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "127.1"] {
        assert!(host.parse::<IpAddr>().is_err(), "{host}");
    }
}

#[test]
fn a_literal_private_address_needs_a_rule_that_was_written_for_it() {
    let uri: Uri = "http://127.0.0.1:9000/bucket/key".parse().unwrap();
    let derived = EgressRule::new(&[], &"http://127.0.0.1:9000/".parse().unwrap()).unwrap();
    let egress = Egress::new(vec![derived.clone()]);
    let rule = "GET http://127.0.0.1:9000/bucket/key".to_owned();
    let denied = egress.check(&Method::GET, &uri);
    assert_eq!(denied, Err(Denied::Address(rule.clone())));
    let named = check(&rule, "GET", "http://127.0.0.1:9000/bucket/key");
    assert!(named.unwrap().private);
    let egress = Egress::new(vec![derived.or_private(true)]);
    assert!(egress.check(&Method::GET, &uri).unwrap().private);
}

#[test]
fn an_object_is_reached_without_what_belongs_to_it() {
    let url = "https://s3.test/bucket/app";
    for (reach, behind) in [(Reach::Object, ""), (Reach::Objects, "/x")] {
        let egress = derived(Method::PUT, url, reach);
        for (query, allowed) in [
            ("", true),
            ("?versionId=1", true),
            ("?acl", false),
            ("?tagging=", false),
            ("?versionId=1&acl", false),
            ("?uploads", false),
            ("?versionId=1;acl", false),
        ] {
            let url = format!("{url}{behind}{query}");
            assert_eq!(reached(&egress, Method::PUT, &url), allowed, "{url}");
        }
    }
}

#[test]
fn a_listing_shows_keys_with_the_stores_own_prefixes_only() {
    let prefixes = vec!["env:/".to_owned(), "app/state".to_owned()];
    let egress = derived(
        Method::GET,
        "https://s3.test/bucket",
        Reach::Listing(prefixes),
    );
    for (query, allowed) in [
        ("?list-type=2&max-keys=1000&prefix=env%3A%2F", true),
        (
            "?continuation-token=a%2Fb&list-type=2&prefix=env:/dev",
            true,
        ),
        ("?max-keys=9&prefix=app%2Fstate&versions=", true),
        ("?versioning=", true),
        ("", false),
        ("?list-type=2", false),
        ("?list-type=2&prefix=", false),
        ("?list-type=2&prefix=app", false),
        ("?prefix=env%3A%2F&prefix=", false),
        ("?list-type=2&prefix=env%3A%2F+", false),
        ("?policy", false),
        ("?versioning&policy", false),
        ("?prefix=env%3A%2F&acl", false),
        ("?prefix=env%3A%2F%FF", false),
    ] {
        let url = format!("https://s3.test/bucket{query}");
        assert_eq!(reached(&egress, Method::GET, &url), allowed, "{url}");
    }
}

#[test]
fn other_workspaces_are_reached_under_the_stores_own_key_only() {
    let ends = vec!["/app/state".to_owned(), "/app/state.tflock".to_owned()];
    let url = "https://s3.test/bucket/env%3A/";
    let egress = derived(Method::PUT, url, Reach::Workspaces(ends));
    for (path, allowed) in [
        ("dev/app/state", true),
        ("dev/app/state.tflock", true),
        ("dev%20two/app/state", true),
        ("dev/other/state", false),
        ("dev/other/app/state", false),
        ("dev%2Fother/app/state", false),
        ("dev%5Cother/app/state", false),
        ("../app/state", false),
        ("%2e%2e/app/state", false),
        ("/app/state", false),
        ("app/state", false),
        ("dev/app/state2", false),
        ("dev/app/state?acl", false),
    ] {
        let url = format!("{url}{path}");
        assert_eq!(reached(&egress, Method::PUT, &url), allowed, "{url}");
    }
}

#[test]
fn a_tables_rule_asks_for_a_look_at_the_body_unless_another_allows_every_table() {
    let url = "https://dynamodb.test/";
    let uri: Uri = url.parse().unwrap();
    let egress = derived(Method::POST, url, Reach::Table("locks".to_owned()));
    let pass = egress.check(&Method::POST, &uri).unwrap();
    assert_eq!(pass.tables, ["locks"]);
    let mut rules = egress.rules;
    rules.push("POST https://dynamodb.test/".parse().unwrap());
    let pass = Egress::new(rules).check(&Method::POST, &uri).unwrap();
    assert!(pass.tables.is_empty());
}

#[test]
fn headers_that_turn_a_request_into_another_are_refused() {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-date", "20261123T120000Z".parse().unwrap());
    assert_eq!(check_headers(&headers), Ok(()));
    for name in ["X-Amz-Copy-Source", "x-http-method-override"] {
        let mut headers = headers.clone();
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.insert(name, "/bucket/other".parse().unwrap());
        let refused = check_headers(&headers);
        assert!(matches!(refused, Err(Denied::Header(_))), "{refused:?}");
    }
}

#[test]
fn a_text_that_is_no_rule_says_what_to_write() {
    for text in [
        "",
        "s3.test",
        "GET",
        "ftp://s3.test/",
        "https://u:p@s3.test/",
        "https://s3.test/?a=b",
        "G T https://x/",
    ] {
        let error = text.parse::<EgressRule>().unwrap_err();
        assert!(
            error.to_string().contains("METHODS scheme://host"),
            "{text}"
        );
    }
}
