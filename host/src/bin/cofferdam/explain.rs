//! `explain`: what the configuration resolves to, and why. Makes no request.
//!
//! `--json` prints what docs/explain.md describes.

use std::cmp::Reverse;

use cofferdam::{Diagnostic, Grant, Severity};
use serde_json::{Value, json};

use crate::arguments::Format;
use crate::failure::Failure;
use crate::output::{Output, data, printable};
use crate::session::Session;

/// The version of the shape of `--json`. New keys do not change it.
const FORMAT_VERSION: &str = "1";

/// The services, the most important first.
const SERVICES: [&str; 5] = ["s3", "dynamodb", "sts", "iam", "sso"];

pub(crate) async fn run(session: &Session, options: &Format) -> Result<(), Failure> {
    let explained = explained(session).await;
    let text = match explained {
        Ok(account) if options.json => format!("{account}\n"),
        Ok(account) => {
            for warning in items(&account["diagnostics"]) {
                session.output.diagnostic(&diagnostic(warning));
            }
            told(&account, session.output)
        }
        // What is wrong is what was asked for.
        Err(failure) if options.json => {
            let account =
                json!({ "format_version": FORMAT_VERSION, "diagnostics": failure.diagnostics });
            data(format!("{account}\n").as_bytes())?;
            return Err(Failure {
                diagnostics: Vec::new(),
                ..failure
            });
        }
        Err(failure) => return Err(failure),
    };
    data(text.as_bytes())
}

async fn explained(session: &Session) -> Result<Value, Failure> {
    let config = Value::Object(session.block()?.config);
    session
        .backend()
        .await?
        .explain(&config, &Grant::local())
        .await
        .map_err(|error| Failure::store("Cannot explain the configuration", &error))
}

fn diagnostic(it: &Value) -> Diagnostic {
    let whole = |part: &str| it[part].as_str().unwrap_or_default().to_owned();
    Diagnostic {
        severity: match it["severity"].as_str() {
            Some("error") => Severity::Error,
            _ => Severity::Warning,
        },
        summary: whole("summary"),
        detail: whole("detail"),
        attribute: it["attribute"].as_str().map(str::to_owned),
    }
}

/// The account for a person: sections, each value with where it came from.
fn told(account: &Value, output: Output) -> String {
    let mut page = Page {
        text: String::new(),
        output,
    };
    let region = &account["region"];
    page.section(
        "Store",
        [
            Row::new("bucket", &account["bucket_url"]),
            Row::new("addressing", &account["addressing"]).why(&account["addressing_reason"]),
            Row::new("region", &region["value"]).why(&region["source"]),
        ],
    );
    let endpoints = &account["endpoints"];
    page.section(
        "Endpoints",
        SERVICES.map(|service| endpoint(service, &endpoints[service], &region["value"])),
    );
    page.section("Credentials", credentials(&account["credentials"]));
    page.section("Requests", requests(account));
    page.section("Locking", locking(&account["locking"]));
    let (encryption, tags) = (&account["encryption"], &account["tags"]);
    let mode = match encryption["mode"].as_str() {
        Some("none") => "left to the bucket",
        Some(mode) => mode,
        None => "",
    };
    page.section(
        "Objects",
        [
            Row::new("encryption", &mode.into()).why(&encryption["note"]),
            Row::new("KMS key", &encryption["kms_key_id"]),
            Row::new("tags of states", &tags["state"]),
            Row::new("tags of locks", &tags["lock"]),
        ],
    );
    page.section("Grant", grant(&account["grant"]));
    page.text
}

/// The region to sign for is worth a word where it is another one.
fn endpoint(service: &str, it: &Value, region: &Value) -> Row {
    let source = text(&it["source"]);
    let signing = &it["signing_region"];
    let why = match signing.as_str() {
        Some(other) if signing != region => format!("{source}, signed for {}", printable(other)),
        Some(_) => source,
        None => format!("{source}, not signed"),
    };
    Row::new(service, &it["url"]).because(why)
}

fn credentials(it: &Value) -> Vec<Row> {
    // One line for each role.
    let source = text(&it["source"]).replace(" assumed with ", "\nassumed with ");
    let mut rows = rows("source", source.lines());
    rows.push(Row::new("access key id", &it["access_key_id"]));
    rows.push(Row::new("profile", &it["profile"]));
    for passed in items(&it["passed_over"]) {
        rows.push(Row::new("passed over", &passed["source"]).why(&passed["reason"]));
    }
    rows.extend(items(&it["files"]).map(|file| Row::new("looked at", file)));
    rows
}

fn requests(account: &Value) -> Vec<Row> {
    let (retry, proxy, tls) = (&account["retry"], &account["proxy"], &account["tls"]);
    let attempts = format!("up to {} times", text(&retry["max_attempts"]));
    let mut rows = vec![Row::new("tried", &attempts.into()).because(format!(
        "{} mode, the first time included",
        text(&retry["mode"])
    ))];
    for (name, scheme) in [("proxy for http", "http"), ("proxy for https", "https")] {
        let it = &proxy[scheme];
        rows.push(Row::new(name, &it["url"]).why(&it["source"]).or("none"));
    }
    let except = &proxy["except"];
    rows.extend(
        items(&except["hosts"]).map(|host| Row::new("no proxy for", host).why(&except["source"])),
    );
    let trust = match (tls["verify"].as_bool(), tls["roots"].as_str()) {
        (Some(false), _) => "NOT VERIFIED: whoever answers is trusted",
        (_, Some("bundle")) => "verified with a bundle of authorities",
        _ => "verified with the system's authorities",
    };
    rows.push(Row::new("certificates", &trust.into()).why(&tls["source"]));
    rows
}

fn locking(it: &Value) -> Vec<Row> {
    let (file, table) = (&it["lockfile"], &it["dynamodb_table"]);
    if file != &json!(true) && table.is_null() {
        let why = "neither use_lockfile nor dynamodb_table is set";
        return vec![Row::new("locks", &"none".into()).because(why.to_owned())];
    }
    vec![
        Row::new("lock file", file),
        Row::new("DynamoDB table", table).or("none"),
    ]
}

fn grant(it: &Value) -> Vec<Row> {
    let whose = match it["commands"].as_str() {
        Some("any-file") => "a credential_process out of any file runs",
        Some("own-files") => "a credential_process out of your own files runs",
        Some("none") => "no credential_process runs",
        _ => "",
    };
    let mut rows = vec![
        Row::new("profile", &it["profile"]),
        Row::new("commands", &it["commands"]).because(whose.to_owned()),
    ];
    rows.extend(network(items(&it["egress"]).map(text)));
    rows.extend(items(&it["files"]).map(|file| Row::new("file", file)));
    rows.extend(items(&it["variables"]).map(|name| Row::new("variable", name)));
    rows
}

/// What may be asked of which hosts. A host's FIPS and dualstack forms stand with it where the same is asked of them.
fn network(rules: impl Iterator<Item = String>) -> Vec<Row> {
    let mut hosts: Vec<(String, Vec<[String; 2]>)> = Vec::new();
    for rule in rules {
        let (methods, url) = rule.split_once(' ').unwrap_or(("", &rule));
        let path = url.match_indices('/').nth(2).map_or(url.len(), |it| it.0);
        let place = [methods.to_owned(), url[path..].to_owned()];
        let host = &url[..path];
        match hosts.iter_mut().find(|known| known.0 == host) {
            Some(known) => known.1.push(place),
            None => hosts.push((host.to_owned(), vec![place])),
        }
    }
    let mut groups: Vec<(String, Vec<String>, Vec<[String; 2]>)> = Vec::new();
    for (host, places) in hosts {
        let plain = plain(&host);
        match groups.iter_mut().find(|it| it.0 == plain && it.2 == places) {
            Some(group) => group.1.push(host),
            None => groups.push((plain, vec![host], places)),
        }
    }
    // The store's own hosts have the most places.
    groups.sort_by_key(|group| Reverse(group.2.len()));
    let mut found = Vec::new();
    for (plain, hosts, places) in groups {
        let has = |is: fn(&str) -> bool| hosts.iter().any(|host| is(host));
        let forms = match (has(is_fips), has(is_dualstack)) {
            _ if !hosts.contains(&plain) || hosts.len() == 1 => "",
            (true, false) => ", also FIPS",
            (false, _) => ", also dualstack",
            (true, true) => ", also FIPS and dualstack",
        };
        let name = match hosts.contains(&plain) {
            true => plain,
            false => hosts.join(", "),
        };
        found.push(Row::new("network", &format!("{name}{forms}").into()));
        let width = places
            .iter()
            .map(|it| it[0].len())
            .max()
            .unwrap_or_default();
        let lines = places
            .iter()
            .map(|[methods, path]| format!("  {methods:<width$}  {path}"));
        found.extend(lines.map(|line| Row::new("network", &line.into())));
    }
    found
}

/// The domains of AWS's dualstack hosts other than S3's, and those of the plain ones.
const DOMAINS: [[&str; 2]; 4] = [
    [".global.api.aws", ".amazonaws.com"],
    [".api.aws", ".amazonaws.com"],
    [".api.amazonwebservices.com.cn", ".amazonaws.com.cn"],
    [".api.amazonwebservices.eu", ".amazonaws.eu"],
];

fn is_fips(host: &str) -> bool {
    host.contains("-fips.")
}

fn is_dualstack(host: &str) -> bool {
    host.contains(".dualstack.") || DOMAINS.iter().any(|[dual, _]| host.ends_with(dual))
}

/// A host of AWS without what FIPS and dualstack make of its name.
fn plain(host: &str) -> String {
    let host = host
        .replacen("-fips.", ".", 1)
        .replacen(".dualstack.", ".", 1);
    let domain = DOMAINS
        .iter()
        .find_map(|[dual, plain]| Some((host.strip_suffix(dual)?, plain)));
    match domain {
        Some((start, plain)) => format!("{start}{plain}"),
        None => host,
    }
}

fn rows<'t>(name: &str, values: impl Iterator<Item = &'t str>) -> Vec<Row> {
    values.map(|value| Row::new(name, &value.into())).collect()
}

/// A value, its name, and where it came from.
struct Row {
    name: String,
    value: String,
    why: String,
}

impl Row {
    fn new(name: &str, value: &Value) -> Self {
        Self {
            name: name.to_owned(),
            value: text(value),
            why: String::new(),
        }
    }

    fn why(self, why: &Value) -> Self {
        self.because(text(why))
    }

    fn because(mut self, why: String) -> Self {
        self.why = why;
        self
    }

    /// What stands for no value. Without it, a row without a value is left out.
    fn or(mut self, nothing: &str) -> Self {
        if self.value.is_empty() {
            nothing.clone_into(&mut self.value);
        }
        self
    }
}

struct Page {
    text: String,
    output: Output,
}

impl Page {
    /// A title and its rows in columns. A section without rows is left out. Rows of one name show it once.
    fn section(&mut self, title: &str, rows: impl IntoIterator<Item = Row>) {
        let rows: Vec<Row> = rows
            .into_iter()
            .filter(|row| !row.value.is_empty())
            .collect();
        if rows.is_empty() {
            return;
        }
        let widest = |of: fn(&Row) -> &str, which: fn(&Row) -> bool| {
            let some = rows.iter().filter(|row| which(row));
            let widths = some.map(|row| of(row).chars().count());
            widths.max().unwrap_or_default()
        };
        let names = widest(|row| &row.name, |_| true);
        let values = widest(|row| &row.value, |row| !row.why.is_empty());
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text += &format!("{}\n", self.output.title(title));
        let mut last = "";
        for row in &rows {
            let name = if row.name == last { "" } else { &row.name };
            last = &row.name;
            let line = format!("  {name:<names$}  {:<values$}  {}", row.value, row.why);
            self.text += line.trim_end();
            self.text.push('\n');
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value on one line; nothing for what is not there.
fn text(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => String::new(),
        Value::String(text) => printable(text).replace('\n', " "),
        other => printable(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_value_stands_in_its_section_with_where_it_came_from() {
        let text = told(
            &json!({
                "region": {"value": "eu-west-1", "source": "environment AWS_REGION"},
                "endpoints": {
                    "dynamodb": null,
                    "iam": {"url": "https://iam.test", "signing_region": "us-east-1", "source": "default"},
                    "s3": {"url": "https://s3.test", "signing_region": "eu-west-1", "source": "argument endpoints.s3"},
                    "sso": {"url": "https://portal.test", "signing_region": null, "source": "profile dev"},
                },
                "bucket_url": "https://s3.test/b", "addressing": "path", "addressing_reason": "use_path_style is true",
                "credentials": {
                    "source": "role one assumed with role two assumed with IAM Identity Center by profile dev",
                    "access_key_id": null, "profile": "dev", "passed_over": [
                        {"source": "environment", "reason": "profile is set"},
                        {"source": "web identity", "reason": "not\nset\u{1b}[2J"},
                    ],
                },
                "retry": {"mode": "standard", "max_attempts": 5},
                "proxy": {"http": null, "https": {"url": "http://proxy.test:80", "source": "environment HTTPS_PROXY"},
                    "except": {"hosts": ["a.test", "b.test"], "source": "argument no_proxy"}},
                "locking": {"lockfile": true, "dynamodb_table": null},
                "encryption": {"mode": "none", "kms_key_id": null, "note": "kms_key_id has no effect"},
                "tags": {"state": "a=b", "lock": null},
                "tls": {"verify": false, "roots": null, "source": "argument insecure"},
                "grant": {"profile": "local", "commands": "own-files", "egress": [
                    "GET,PUT http://169.254.169.254/latest/*", "POST https://sts.cn-north-1.amazonaws.com.cn/",
                    "POST https://sts.cn-north-1.api.amazonwebservices.com.cn/",
                    "POST https://iam-fips.amazonaws.com/", "POST https://iam.global.api.aws/",
                    "POST https://iam.amazonaws.com/", "GET https://s3.test/b", "GET,PUT https://s3.test/b/k",
                ], "files": ["read /home/me/.aws/"], "variables": ["AWS_REGION", "HOME"]},
            }),
            Output::new(true),
        );
        let expected = "\
Store
  bucket      https://s3.test/b
  addressing  path       use_path_style is true
  region      eu-west-1  environment AWS_REGION

Endpoints
  s3   https://s3.test      argument endpoints.s3
  iam  https://iam.test     default, signed for us-east-1
  sso  https://portal.test  profile dev, not signed

Credentials
  source       role one
               assumed with role two
               assumed with IAM Identity Center by profile dev
  profile      dev
  passed over  environment   profile is set
               web identity  not set\\u{1b}[2J

Requests
  tried            up to 5 times                             standard mode, the first time included
  proxy for http   none
  proxy for https  http://proxy.test:80                      environment HTTPS_PROXY
  no proxy for     a.test                                    argument no_proxy
                   b.test                                    argument no_proxy
  certificates     NOT VERIFIED: whoever answers is trusted  argument insecure

Locking
  lock file       yes
  DynamoDB table  none

Objects
  encryption      left to the bucket  kms_key_id has no effect
  tags of states  a=b

Grant
  profile   local
  commands  own-files  a credential_process out of your own files runs
  network   https://s3.test
              GET      /b
              GET,PUT  /b/k
            http://169.254.169.254
              GET,PUT  /latest/*
            https://sts.cn-north-1.amazonaws.com.cn, also dualstack
              POST  /
            https://iam.amazonaws.com, also FIPS and dualstack
              POST  /
  file      read /home/me/.aws/
  variable  AWS_REGION
            HOME
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_store_without_locks_says_so() {
        let account = json!({"locking": {"lockfile": false, "dynamodb_table": null}});
        let text = told(&account, Output::new(true));
        let expected = "  locks  none  neither use_lockfile nor dynamodb_table is set\n";
        assert!(text.contains(expected), "{text}");
    }
}
