//! What the guest reads from others, fed with inputs nobody thought of; see the crate `cofferdam-fuzz`. Shared files are
//! fed beside their reader, in `credentials/ini.rs`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reports by panicking"
)]

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use cofferdam_fuzz::{Target, outcome};
use serde_json::{Value, json};

use crate::aws::error::StoreError;
use crate::aws::xml;
use crate::config::{self, Diagnostic, Environment, Severity};
use crate::contract::{
    DeleteOptions, Error, Expectation, Fence, HeldLock, LockInfo, OpenOptions, UnlockBy,
    WriteOptions,
};
use crate::platform::{
    Clock, Credentials, HttpBody, HttpRequest, HttpResponse, Random, Refusal, Surroundings,
    Transport, TransportError,
};
use crate::{Store, lock_record};

/// Planted wherever a secret may stand.
const SECRET: &str = "CANARY-SECRET";
/// The same as a customer's key: 32 bytes.
const SECRET_KEY: &str = "Q0FOQVJZLVNFQ1JFVC1vZi1hLWN1c3RvbWVyLTAxMjM=";
/// Between the parts of an input.
const NEXT: &str = "\n---\n";

/// One call of the contract.
type Call = fn(&Store<Machine>) -> Result<(), Error>;

/// A machine that exists only here. Its time passes when somebody sleeps.
#[derive(Default)]
struct Machine {
    variables: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
    /// What services answer, one after the other, and then from the start again.
    answers: Vec<String>,
    requests: Cell<usize>,
    time: Cell<Duration>,
    reported: RefCell<Vec<Diagnostic>>,
}

impl Environment for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

impl Surroundings for Machine {
    fn credentials(&self) -> Option<Credentials> {
        None
    }

    fn read_file(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        let file = self.files.get(path).ok_or(Refusal::NotFound)?;
        Ok(file.clone().into_bytes())
    }

    fn report(&self, diagnostic: Diagnostic) {
        self.reported.borrow_mut().push(diagnostic);
    }
}

impl Clock for Machine {
    fn now(&self) -> Duration {
        Duration::from_secs(1_795_397_124) + self.time.get()
    }

    fn monotonic(&self) -> Duration {
        self.time.get()
    }

    fn sleep(&self, duration: Duration) {
        self.time.set(self.time.get() + duration);
    }
}

impl Random for Machine {
    fn next_u64(&self) -> u64 {
        7
    }
}

impl Transport for Machine {
    /// A line with the status, lines of headers, an empty line, the body. A status that is none: the connection breaks.
    fn send(&self, _request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        let number = self.requests.get();
        assert!(number < 2000, "it asks without end");
        self.requests.set(number + 1);
        let answer = &self.answers[number % self.answers.len()];
        let (head, body) = answer.split_once("\n\n").unwrap_or((answer, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.trim().parse().ok());
        let Some(status) = status.filter(|status| (200..=599).contains(status)) else {
            return Err(TransportError::Broken("no answer".to_owned()));
        };
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        Ok(HttpResponse {
            status,
            headers: headers.collect(),
            body: Box::new(Body(Some(body.as_bytes().to_vec()))),
        })
    }
}

struct Body(Option<Vec<u8>>);

impl HttpBody for Body {
    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        Ok(self.0.take())
    }
}

/// A block, variables, the shared configuration, the shared credentials.
#[test]
fn configurations_are_judged_without_a_panic_and_without_telling_a_secret() {
    const WORDS: &[&str] = &[
        "\"bucket\":",
        "\"key\":",
        "\"region\":",
        "\"endpoints\":{",
        "\"s3\":",
        "\"dynamodb\":",
        "\"sts\":",
        "\"iam\":",
        "\"sso\":",
        "\"assume_role\":{",
        "\"role_arn\":",
        "\"assume_role_with_web_identity\":{",
        "\"duration\":",
        "\"session_name\":",
        "\"policy\":",
        "\"policy_arns\":[",
        "\"tags\":{",
        "\"transitive_tag_keys\":[",
        "\"web_identity_token\":",
        "\"web_identity_token_file\":",
        "\"profile\":",
        "\"kms_key_id\":",
        "\"encrypt\":true",
        "\"sse_customer_key\":\"\"",
        "\"access_key\":",
        "\"secret_key\":\"\"",
        "\"token\":\"\"",
        "\"dynamodb_table\":",
        "\"use_lockfile\":true",
        "\"workspace_key_prefix\":",
        "\"max_retries\":",
        "\"retry_mode\":",
        "\"acl\":",
        "\"use_path_style\":true",
        "\"force_path_style\":true",
        "\"use_fips_endpoint\":true",
        "\"use_dualstack_endpoint\":true",
        "\"http_proxy\":",
        "\"allowed_account_ids\":[",
        "\"forbidden_account_ids\":[",
        "\"shared_config_files\":[",
        "\"shared_credentials_files\":[",
        "\"skip_region_validation\":true",
        "\"user_agent\":[",
        "\"ec2_metadata_service_endpoint\":",
        "arn:aws:iam::111122223333:role/r",
        "http://",
        "https://",
        "[::1]:9000",
        "1h30m",
        "true",
        "false",
        "null",
        "\"",
        ",",
        "{",
        "}",
        "[",
        "]",
        "AWS_REGION=",
        "AWS_PROFILE=",
        "AWS_ENDPOINT_URL=",
        "AWS_ENDPOINT_URL_S3=",
        "AWS_MAX_ATTEMPTS=",
        "AWS_RETRY_MODE=",
        "AWS_USE_FIPS_ENDPOINT=",
        "AWS_S3_USE_ARN_REGION=",
        "[profile ",
        "[sso-session ",
        "[services ",
        "source_profile = ",
        "role_arn = ",
        "credential_source = ",
        "credential_process = ",
        "sso_session = ",
        "sso_start_url = ",
        "services = ",
        "s3 =\n  ",
        "endpoint_url = ",
        "region = ",
        "mfa_serial = ",
        "duration_seconds = ",
        "web_identity_token_file = ",
        "\n---\n",
    ];
    Target::new("configuration", WORDS).run(|input| {
        let input = String::from_utf8_lossy(input);
        let mut parts = input.split(NEXT);
        let mut part = || parts.next().unwrap_or_default();
        let (block, variables, config, credentials) = (part(), part(), part(), part());
        let pairs = variables.lines().filter_map(|line| line.split_once('='));
        let mut machine = Machine {
            variables: pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            ..Machine::default()
        };
        // A variable that holds nothing but a name and a text is not checked for what it may look like.
        for name in ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            if let Some(value) = machine.variables.get_mut(name) {
                *value = SECRET.to_owned();
            }
        }
        machine
            .variables
            .insert("HOME".to_owned(), "/home/me".to_owned());
        let secrets = format!("\naws_secret_access_key = {SECRET}\naws_session_token = {SECRET}\n");
        machine.files.insert(
            "/home/me/.aws/config".to_owned(),
            format!("{config}{secrets}"),
        );
        machine.files.insert(
            "/home/me/.aws/credentials".to_owned(),
            format!("{credentials}{secrets}"),
        );
        judged(block, &machine, false);
        let Ok(Value::Object(mut block)) = serde_json::from_str::<Value>(block) else {
            return 0;
        };
        for (name, secret) in [
            ("secret_key", SECRET),
            ("token", SECRET),
            ("sse_customer_key", SECRET_KEY),
        ] {
            if let Some(value) = block.get_mut(name) {
                *value = secret.into();
            }
        }
        judged(
            &Value::Object(block).to_string(),
            &machine,
            !input.contains("CANARY"),
        )
    });
}

fn judged(block: &str, machine: &Machine, hides_secrets: bool) -> u64 {
    let checked = config::validate(block, machine);
    let explained = config::explain(block, machine);
    let mut told = format!("{checked:?}{explained:?}");
    let diagnostics = match config::resolve(block, machine) {
        Ok(resolution) => {
            let settings = &resolution.settings;
            told += &format!(
                "{resolution:?}{}{}",
                settings.s3_url(),
                settings.dynamodb_location().url()
            );
            let is_error = |it: &Diagnostic| it.severity == Severity::Error;
            assert!(
                !resolution.warnings.iter().any(is_error),
                "an error let it pass"
            );
            let explanation: Value =
                serde_json::from_str(&explained.expect("what resolves is explained")).unwrap();
            assert_eq!(explanation["format_version"], "1");
            resolution.warnings
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "refused without a reason");
            assert_eq!(explained, Err(diagnostics.clone()));
            diagnostics
        }
    };
    for diagnostic in diagnostics.iter().chain(&checked) {
        assert!(!diagnostic.summary.trim().is_empty(), "{diagnostic:?}");
    }
    if hides_secrets {
        assert!(
            !told.contains(SECRET) && !told.contains(SECRET_KEY),
            "a secret is told: {told}"
        );
    }
    let shape = diagnostics.iter().map(|it| (&it.summary, &it.attribute));
    outcome(shape.collect::<Vec<_>>())
}

/// A status in the first byte, then the body of an answer that refuses.
#[test]
fn whatever_a_store_refuses_with_is_taken_without_a_panic_and_in_harmless_words() {
    const WORDS: &[&str] = &[
        "<Error>",
        "</Error>",
        "<Code>",
        "</Code>",
        "<Message>",
        "</Message>",
        "<RequestId>",
        "</RequestId>",
        "<Region>",
        "</Region>",
        "<Header>If-None-Match</Header>",
        "<Condition>",
        "<ErrorResponse>",
        "</ErrorResponse>",
        "<a/>",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?xml version=\"1.0\"?>",
        "<!DOCTYPE a [<!ENTITY x \"y\">]>",
        "&x;",
        "&#0;",
        "&#x41;",
        "xmlns:a=\"b\"",
        "<a:Code>",
        "{\"__type\":\"a#b\"",
        "\"message\":",
        "\"Message\":",
        "checksum",
        "NotImplemented",
        "SlowDown",
        "RequestTimeTooSkewed",
    ];
    const STATUSES: [u16; 10] = [200, 301, 400, 403, 404, 409, 412, 500, 501, 503];
    Target::new("xml_errors", WORDS).run(|input| {
        let (status, body) = input
            .split_first()
            .map_or((0, input), |(first, rest)| (*first, rest));
        let status = STATUSES[usize::from(status) % STATUSES.len()];
        let mut paths = Vec::new();
        let mut size = 0;
        let whole = xml::visit_texts(body, |path, text| {
            paths.push(path.matches('/').count());
            size += text.len();
        });
        assert!(
            paths.iter().all(|depth| *depth <= 16),
            "deeper than a document may be"
        );
        assert!(
            size <= body.len(),
            "a text that is longer than its document"
        );
        let response = HttpResponse {
            status,
            headers: Vec::new(),
            body: Box::new(Body(None)),
        };
        let error = StoreError::of(&response, body);
        for text in [
            &error.code,
            &error.message,
            &error.request_id,
            &error.region,
            &error.culprit,
        ]
        .into_iter()
        .flatten()
        {
            assert!(!text.is_empty() && text.chars().count() <= 400, "{text:?}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
        outcome((
            status,
            whole.is_ok(),
            paths.len().min(8),
            [&error.code, &error.message, &error.region, &error.culprit].map(Option::is_some),
            [
                error.is_no_such_key(),
                error.is_failed_condition(),
                error.is_conflict(),
                error.is_condition_unsupported(),
                error.is_not_implemented(),
                error.is_about_checksums(),
                error.says("x"),
            ],
        ))
    });
}

#[test]
fn a_lock_record_that_is_read_is_written_and_read_the_same() {
    const WORDS: &[&str] = &[
        "\"ID\":",
        "\"Operation\":",
        "\"Info\":",
        "\"Who\":",
        "\"Version\":",
        "\"Created\":",
        "\"Path\":",
        "null",
        "2026-11-23T01:25:14.197208790Z",
        "+01:00",
        "-23:59",
        "9999-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "\\u2028",
        "\\ud83d\\ude00",
        "<",
        "{",
        "}",
    ];
    Target::new("lock_records", WORDS).run(|input| {
        let date = String::from_utf8_lossy(input);
        dates(&date);
        let Some(info) = lock_record::from_json(input) else {
            return 0;
        };
        let json = lock_record::to_json(&info);
        let again = lock_record::from_json(json.as_bytes()).expect("what we write is a record");
        assert_eq!(lock_record::to_json(&again), json);
        assert_eq!(format!("{again:?}"), format!("{info:?}"));
        let value: Value = serde_json::from_str(&json).expect("what we write is JSON");
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(7));
        let text = lock_record::to_text(&info);
        assert_eq!(text.lines().count(), 8, "{text:?}");
        assert!(
            !text.replace('\n', "").chars().any(char::is_control),
            "{text:?}"
        );
        let is_date = dates(&info.created);
        let texts = [
            &info.id,
            &info.operation,
            &info.info,
            &info.who,
            &info.version,
            &info.path,
        ];
        outcome((
            is_date,
            texts.map(|text| {
                (
                    text.is_empty(),
                    text.is_ascii(),
                    text.contains(['"', '\\', '<']),
                )
            }),
        ))
    });
}

/// A date in Go's form stays as it is.
fn dates(date: &str) -> bool {
    let Some(normal) = lock_record::normalised_date(date) else {
        return false;
    };
    assert_eq!(lock_record::normalised_date(&normal), Some(normal));
    true
}

/// Answers of S3 and DynamoDB, one after the other, to every operation of a store.
#[test]
fn whatever_services_answer_every_call_ends_with_a_result_or_an_error_in_words() {
    const WORDS: &[&str] = &[
        "\n---\n",
        "200\n",
        "204\n",
        "304\n",
        "400\n",
        "404\n",
        "409\n",
        "412\n",
        "500\n",
        "503\n",
        "etag: \"a\"\n",
        "etag: \"900150983cd24fb0d6963f7d28e17f72\"\n",
        "content-length: 3\n",
        "x-amz-version-id: v\n",
        "x-amz-checksum-sha256: ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=\n",
        "retry-after: 1\n",
        "date: Mon, 23 Nov 2026 01:25:24 GMT\n",
        "x-amz-bucket-region: eu-west-1\n",
        "<ListBucketResult>",
        "</ListBucketResult>",
        "<IsTruncated>true</IsTruncated>",
        "<NextContinuationToken>t</NextContinuationToken>",
        "<CommonPrefixes><Prefix>env:/dev/</Prefix></CommonPrefixes>",
        "<Contents><Key>env:/dev/k</Key></Contents>",
        "<EncodingType>url</EncodingType>",
        "%2",
        "%ff",
        "<Error><Code>NoSuchKey</Code></Error>",
        "<Error><Code>PreconditionFailed</Code></Error>",
        "<Error><Code>RequestTimeTooSkewed</Code></Error>",
        "{\"Item\":{",
        "\"LockID\":{\"S\":\"",
        "\"Info\":{\"S\":\"",
        "\"Digest\":{\"S\":\"",
        "\"}}",
        "}}",
        "{\"__type\":\"x#ConditionalCheckFailedException\"}",
        "{\"__type\":\"x#ResourceNotFoundException\"}",
        "{\"ID\":\"fuzz\"}",
        "{\"serial\":1,\"lineage\":\"a\"}",
        "{}",
    ];
    Target::new("answers", WORDS).run(|input| {
        let input = String::from_utf8_lossy(input);
        let calls: [Call; 7] = [
            |store| store.read("default", None).map(|_| ()),
            |store| store.workspaces().map(|_| ()),
            |store| store.holders("dev").map(|_| ()),
            |store| store.lock("default", info()).map(|_| ()),
            |store| {
                let lock = Some(HeldLock {
                    id: "fuzz".to_owned(),
                    token: "fuzz".to_owned(),
                });
                let expect = Expectation::Absent;
                let options = WriteOptions {
                    expect,
                    lock,
                    sha256: None,
                };
                store
                    .write("default", b"{\"serial\":1}", &options)
                    .map(|_| ())
            },
            |store| store.unlock("default", &UnlockBy::Id("fuzz".to_owned())),
            |store| {
                let options = DeleteOptions {
                    expect: Expectation::Anything,
                    lock: None,
                };
                store.delete("dev", &options)
            },
        ];
        let mut shape = Vec::new();
        for call in calls {
            let machine = Machine {
                answers: input.split(NEXT).map(str::to_owned).collect(),
                ..Machine::default()
            };
            let result = call(&opened(machine));
            if let Err(error) = &result {
                assert!(!error.message.trim().is_empty(), "an error without words");
                let told = format!("{error:?}");
                assert!(!told.contains(SECRET), "a secret is told: {told}");
            }
            shape.push(result.err().map(|error| {
                let facts = error.facts.into_iter().map(|(name, _)| name);
                (
                    format!("{:?} {:?}", error.code, error.outcome),
                    facts.collect::<Vec<_>>(),
                )
            }));
        }
        outcome(shape)
    });
}

/// A store with both locks.
fn opened(machine: Machine) -> Store<Machine> {
    let block = json!({
        "bucket": "states", "key": "k", "region": "eu-west-1", "use_lockfile": true, "dynamodb_table": "locks",
        "access_key": "AKIAFUZZ", "secret_key": SECRET, "skip_credentials_validation": true,
        "skip_requesting_account_id": true, "skip_metadata_api_check": true,
    });
    let options = OpenOptions {
        fence: Fence::Required,
        call_budget: None,
        max_state: 1 << 20,
    };
    let opened = Store::open(machine, &block.to_string(), options);
    opened.map_err(|errors| format!("{errors:?}")).unwrap().0
}

fn info() -> LockInfo {
    let text = str::to_owned;
    LockInfo {
        id: text("fuzz"),
        operation: text("fuzz"),
        info: String::new(),
        who: text("me@here"),
        version: text("1"),
        created: text("2026-11-23T01:25:24Z"),
        path: String::new(),
    }
}
