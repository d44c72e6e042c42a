//! What a program did in a case: what it asked for, where, as whom; what it told the person.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cofferdam_tests::credential_services::{Operation, Recorded};

/// What can be compared.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Calls of services that know credentials, each once.
    pub credentials: BTreeSet<String>,
    /// Calls of the stores, each once.
    pub stores: BTreeSet<String>,
    /// What was told, in the order of the words.
    pub told: BTreeSet<Told>,
}

/// A diagnostic.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Told {
    /// `Error` or `Warning`.
    pub severity: String,
    /// Its first line.
    pub summary: String,
    /// The rest on one line, without the place in a file.
    pub detail: String,
}

impl Told {
    fn is_error(&self) -> bool {
        self.severity == "Error"
    }
}

/// Names for what is another in every run.
pub type Names<'a> = &'a [(&'a str, &'a str)];

impl Outcome {
    /// What was recorded while a program ran, and what that printed to standard error. `tunnels` are the places to which
    /// it spoke TLS. `counts`: how often each request came is told, too.
    pub fn of(
        recorded: &[Recorded],
        tunnels: &[String],
        printed: &str,
        names: Names<'_>,
        counts: bool,
    ) -> Self {
        let mut outcome = Self {
            told: told(printed, names),
            ..Self::default()
        };
        for request in recorded {
            let mut call = named(&call(request, tunnels), names);
            if counts {
                let same = |it: &&Recorded| it.path == request.path && it.body == request.body;
                let _ = write!(
                    call,
                    " (attempts: {})",
                    recorded.iter().filter(same).count()
                );
            }
            match request.operation {
                Operation::DynamoDb | Operation::S3 => outcome.stores.insert(call),
                _ => outcome.credentials.insert(call),
            };
        }
        outcome
    }

    /// Whether it came to an error.
    pub fn is_refused(&self) -> bool {
        self.told.iter().any(Told::is_error)
    }

    /// Whether an error says this, in whatever place and case.
    pub fn says(&self, cause: &str) -> bool {
        let cause = cause.to_lowercase();
        let mut errors = self.told.iter().filter(|told| told.is_error());
        errors.any(|it| {
            format!("{} {}", it.summary, it.detail)
                .to_lowercase()
                .contains(&cause)
        })
    }

    /// Whether it called nothing that the other did not call.
    pub fn calls_no_more_than(&self, other: &Self) -> bool {
        self.credentials.is_subset(&other.credentials) && self.stores.is_subset(&other.stores)
    }

    /// Takes over the warnings of another run.
    pub fn take_warnings(&mut self, mut other: Self) {
        other.told.retain(|told| !told.is_error());
        self.told.append(&mut other.told);
    }

    /// Puts the warnings of `ours` in the place of what Terraform says of several with one summary: it shows the first of
    /// them, and how many more there are.
    pub fn spread_warnings(&mut self, ours: &Self) {
        for told in self.told.clone() {
            let Some((first, more)) = told.detail.rsplit_once(" (and ") else {
                continue;
            };
            let alike = |it: &&Told| !it.is_error() && it.summary == told.summary;
            let alike: Vec<&Told> = ours.told.iter().filter(alike).collect();
            let number = match more.split(' ').next() {
                Some("one") => Some(1),
                number => number.and_then(|number| number.parse().ok()),
            };
            let is_first = alike.iter().any(|it| it.detail == first);
            if is_first && number.map(|number: usize| number + 1) == Some(alike.len()) {
                self.told.remove(&told);
                self.told.extend(alike.into_iter().cloned());
            }
        }
    }

    /// What only this one did, and what only the other.
    pub fn difference_to(&self, other: &Self) -> String {
        let (ours, theirs) = (other.lines(), self.lines());
        let only = |who: &str, these: &BTreeSet<String>, those: &BTreeSet<String>| {
            let lines = these
                .difference(those)
                .map(|line| format!("  {who}: {line}\n"));
            lines.collect::<String>()
        };
        only("Terraform", &theirs, &ours) + &only("cofferdam", &ours, &theirs)
    }

    fn lines(&self) -> BTreeSet<String> {
        let told = self
            .told
            .iter()
            .map(|told| format!("{}: {} / {}", told.severity, told.summary, told.detail));
        let calls = self.credentials.iter().chain(&self.stores).cloned();
        calls.chain(told).collect()
    }

    /// For a cell of a table.
    pub fn cell(&self) -> String {
        let mut cell: Vec<String> = self
            .credentials
            .iter()
            .chain(&self.stores)
            .cloned()
            .collect();
        for told in &self.told {
            let mut words = format!("{}: **{}**", told.severity, told.summary);
            if !told.detail.is_empty() {
                let _ = write!(words, " {}", shortened(&told.detail));
            }
            cell.push(words);
        }
        cell.join("<br>").replace('|', "\\|")
    }
}

/// `s3 https://states.s3.eu-west-1.amazonaws.com/ as AKIAENV for eu-west-1`.
fn call(request: &Recorded, tunnels: &[String]) -> String {
    let host = &request.host;
    let with_port = format!("{host}:443");
    let is_tls = tunnels.iter().any(|it| *it == with_port || it == host);
    let scheme = if is_tls { "https" } else { "http" };
    let path = request
        .path
        .strip_prefix("http://")
        .map_or(request.path.as_str(), |rest| {
            rest.find('/').map_or("/", |slash| &rest[slash..])
        });
    let path = path.split('?').next().unwrap_or_default();
    let (what, path) = match request.operation {
        // A bucket in the path counts, not which of its objects each program asks for first.
        Operation::S3 => ("S3".to_owned(), bucket_of(path)),
        Operation::DynamoDb => ("DynamoDB".to_owned(), path.to_owned()),
        operation => (format!("{operation:?}"), path.to_owned()),
    };
    let mut call = format!("{what} {scheme}://{host}{path}");
    if let (Some(id), Some(region)) = (&request.access_key_id, &request.region) {
        let _ = write!(call, " as {id} for {region}");
        let service = request.service.as_deref().unwrap_or_default();
        let usual = match request.operation {
            Operation::DynamoDb => "dynamodb",
            Operation::GetUser | Operation::ListRoles => "iam",
            Operation::S3 => "s3",
            _ => "sts",
        };
        if service != usual {
            let _ = write!(call, " and the service {service}");
        }
        if request.session_token().is_some() {
            call.push_str(" with a session token");
        }
    }
    match request.operation {
        Operation::AssumeRole | Operation::AssumeRoleWithWebIdentity => {
            let _ = write!(call, " {}", fields(&request.body));
        }
        Operation::ContainerCredentials if request.header("authorization").is_some() => {
            call.push_str(" with a token");
        }
        Operation::ImdsRole | Operation::ImdsCredentials | Operation::ImdsInstanceProfile
            if request.header("x-aws-ec2-metadata-token").is_some() =>
        {
            call.push_str(" with a token");
        }
        _ => {}
    }
    call
}

/// The first part of a path-style path: the bucket. Nothing of any other: a key has more than one part.
fn bucket_of(path: &str) -> String {
    let first = path
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default();
    match first {
        "" | "app" | "env:" | "env%3A" => "/".to_owned(),
        bucket => format!("/{bucket}/"),
    }
}

/// The fields of a form, sorted; without those that say nothing, and without names that are made up.
fn fields(body: &str) -> String {
    let mut fields: Vec<&str> = body
        .split('&')
        .filter(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let made_up = name == "RoleSessionName"
                && (value.starts_with("aws-go-sdk-")
                    || value.bytes().all(|it| it.is_ascii_digit()));
            !made_up && name != "Action" && name != "Version"
        })
        .collect();
    fields.sort_unstable();
    format!("({})", fields.join(" "))
}

/// The diagnostics in their frames.
fn told(printed: &str, names: Names<'_>) -> BTreeSet<Told> {
    let plain = without_colours(printed);
    let mut all = BTreeSet::new();
    for frame in plain.split('╷').skip(1) {
        let frame = frame.split('╵').next().unwrap_or_default();
        let lines = frame.lines().map(|line| line.trim_start_matches('│'));
        let lines: Vec<&str> = lines
            .map(|line| line.strip_prefix(' ').unwrap_or(line))
            .skip_while(|line| line.trim().is_empty())
            .collect();
        // The summary can be as long as it likes, but stands on one line.
        let Some((first, rest)) = lines.split_first() else {
            continue;
        };
        let (severity, summary) = first.split_once(": ").unwrap_or(("Error", first));
        let detail: Vec<&str> = rest
            .iter()
            .copied()
            .filter(|line| !is_place(line))
            .flat_map(str::split_whitespace)
            .collect();
        all.insert(Told {
            severity: severity.trim().to_owned(),
            summary: without_name_server(&named(summary.trim(), names)),
            detail: without_name_server(&named(&detail.join(" "), names)),
        });
    }
    all
}

/// Whether a line of a diagnostic says where in the configuration: each program has its own words for that.
fn is_place(line: &str) -> bool {
    let indented = line.starts_with("  ");
    let text = line.trim_start();
    let numbered = text.split_once(": ").is_some_and(|(number, _)| {
        !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit())
    });
    indented
        && (numbered
            || text.starts_with("with the argument ")
            || (text.starts_with("on ") && text.ends_with(':')))
}

/// Go says which name server does not know a host.
fn without_name_server(text: &str) -> String {
    let server = text
        .split_once("dial tcp: lookup ")
        .and_then(|(_, rest)| rest.split_once(" on "))
        .and_then(|(_, rest)| rest.split_once(": "));
    match server {
        Some((server, _)) => text.replace(&format!(" on {server}: "), ": "),
        None => text.to_owned(),
    }
}

fn without_colours(text: &str) -> String {
    text.split("\u{1b}[")
        .enumerate()
        .map(|(part, text)| match text.split_once('m') {
            Some((_, after)) if part > 0 => after,
            _ => text,
        })
        .collect()
}

fn named(text: &str, names: Names<'_>) -> String {
    names.iter().fold(text.to_owned(), |text, (value, name)| {
        text.replace(value, name)
    })
}

/// The beginning of a text, for a table.
fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}
