//! Workspaces: names, paths and listings.

mod support;

use cofferdam_s3::contract::{ErrorCode, Expectation, Fence};
use support::*;

const DENIED: &str = "<Error><Code>AccessDenied</Code></Error>";
const CIRCLE: &str = "<ListBucketResult><IsTruncated>true</IsTruncated>\
    <NextContinuationToken>t</NextContinuationToken></ListBucketResult>";

fn key(path: &str) -> String {
    format!("/tfstate/{}", path.replace(':', "%3A"))
}

#[test]
fn a_listing_goes_over_all_pages_and_knows_workspaces_by_their_exact_path() {
    let fake = Fake::default();
    for path in [
        "env:/s2/app/terraform.tfstate",
        "env:/s1/app/terraform.tfstate",
        "env:/default/app/terraform.tfstate",
        "env:/error",
        "env:/s3/other",
        "env:/s4/",
        "env:/s1/app/terraform.tfstate.tflock",
        "env:/a/b/app/terraform.tfstate",
        "env://app/terraform.tfstate",
        "env:/./app/terraform.tfstate",
        "env:/../app/terraform.tfstate",
        "app/terraform.tfstate",
    ] {
        fake.put(&key(path), b"{}");
    }
    fake.world().quirks.page = 2;
    assert_eq!(fake.open().workspaces().unwrap(), ["default", "s1", "s2"]);
    let sent = fake.sent();
    assert_eq!(
        sent[0],
        "GET /tfstate?list-type=2&max-keys=1000&prefix=env%3A%2F"
    );
    assert_eq!(
        sent[1],
        "GET /tfstate?continuation-token=2&list-type=2&max-keys=1000&prefix=env%3A%2F"
    );
    assert_eq!(sent.len(), 6);
}

#[test]
fn without_a_prefix_the_whole_bucket_is_listed() {
    let fake = Fake::default();
    fake.put(&key("s1/app/terraform.tfstate"), b"{}");
    fake.put(&key("app/terraform.tfstate"), b"{}");
    fake.world().quirks.page = 1000;
    let store = fake.open_with(",\"workspace_key_prefix\":\"\"", Fence::Required, None);
    assert_eq!(store.workspaces().unwrap(), ["default", "s1"]);
    store
        .write("s2", b"{}", &expecting(Expectation::Absent))
        .unwrap();
    assert!(fake.stored(&key("s2/app/terraform.tfstate")).is_some());
}

#[test]
fn a_denied_listing_is_default_with_a_warning_for_terraforms_own_prefix_only() {
    let fake = Fake::default();
    fake.put(&key("env:/s1/app/terraform.tfstate"), b"{}");
    fake.put(&key("env:/s2/app/terraform.tfstate"), b"{}");
    fake.world().quirks.page = 1;
    fake.fault(2, Fault::Answer(403, DENIED));
    assert_eq!(fake.open().workspaces().unwrap(), ["default"]);
    let report = fake.world().reports.remove(0);
    assert!(report.detail.contains("s3:ListBucket"), "{}", report.detail);
    assert!(
        report.detail.contains("arn:aws:s3:::tfstate"),
        "{}",
        report.detail
    );

    fake.sent();
    let store = fake.open_with(",\"workspace_key_prefix\":\"ws\"", Fence::Required, None);
    fake.fault(1, Fault::Answer(403, DENIED));
    let error = store.workspaces().unwrap_err();
    assert_eq!(error.code, ErrorCode::AccessDenied);
    assert_eq!(fact(&error, "permission"), Some("s3:ListBucket"));
    assert_eq!(fact(&error, "resource"), Some("arn:aws:s3:::tfstate"));
    assert_eq!(fake.world().reports.len(), 0);
}

#[test]
fn a_listing_that_is_garbage_or_a_circle_is_an_error() {
    let fake = Fake::default();
    let store = fake.open();
    for body in [
        "",
        "<html/>",
        "<ListBucketResult><Contents><Key>env:/s1/app/terr",
    ] {
        fake.fault(1, Fault::Answer(200, body));
        assert!(store.workspaces().is_err(), "{body}");
    }
    fake.fault(1, Fault::Answer(200, CIRCLE));
    fake.fault(2, Fault::Answer(200, CIRCLE));
    assert!(store.workspaces().unwrap_err().message.contains("circles"));
}

#[test]
fn names_that_are_no_names_are_refused_in_every_call() {
    let fake = Fake::default();
    let store = fake.open();
    for name in [
        "", ".", "..", "a/b", "/", "a\nb", "\u{0}", "\u{7f}", "\u{85}",
    ] {
        for code in [
            store.read(name, None).map(drop),
            store
                .write(name, b"{}", &expecting(Expectation::Anything))
                .map(drop),
            store.delete(name, &deleting(Expectation::Anything)),
            store.lock(name, info("a")).map(drop),
            store.holders(name).map(drop),
        ] {
            assert_eq!(
                code.unwrap_err().code,
                ErrorCode::InvalidArgument,
                "{name:?}"
            );
        }
    }
    assert_eq!(fake.sent(), [""; 0]);
    store.read("dév 1", None).unwrap();
    assert_eq!(
        fake.sent(),
        ["GET /tfstate/env%3A/d%C3%A9v%201/app/terraform.tfstate"]
    );
}

#[test]
fn a_prefix_that_tools_read_differently_allows_default_only() {
    let fake = Fake::default();
    let store = fake.open_with(",\"workspace_key_prefix\":\"a//b\"", Fence::Required, None);
    assert_eq!(store.workspaces().unwrap(), ["default"]);
    store.read("default", None).unwrap();
    assert_eq!(
        store.read("dev", None).unwrap_err().code,
        ErrorCode::InvalidArgument
    );
    assert_eq!(fake.sent(), [format!("GET {STATE}")]);
}
