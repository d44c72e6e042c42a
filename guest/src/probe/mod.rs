//! Tries out, in the store itself, what locks and writes rely on.
//!
//! Stores that speak S3 differ exactly where it matters: some ignore the condition of a write without a word, some honour
//! it one at a time and let several writers win a race. No table of vendors stays true for long, so that only the store
//! can tell; and a team that never asked finds out by a lost state.
//!
//! `steps` has the order of the steps on the bucket: first `parts`, what uploads carry, then `conditions` one at a time and
//! in a `race`. The steps on the table stand in `table`. `traces` removes again what they made, and `report` draws the
//! verdict.

mod conditions;
mod parts;
mod race;
mod report;
mod steps;
mod table;
mod traces;

use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::aws::error::StoreError;
use crate::aws::http::{Answer, Client, Failure, Payload, Request};
use crate::aws::retry::{self, Cause};
use crate::aws::sign;
use crate::calendar;
use crate::config::{Settings, Sourced};
use crate::contract::{Error, ProbeOptions};
use crate::dynamodb::DynamoDb;
use crate::failure::Context;
use crate::operation::{Failed, Operation};
use crate::platform::Platform;
use crate::s3::{Condition, Got, Kind, S3};

use report::{Report, Verb};
use traces::Traces;

/// What the keys of a probe's objects have behind the key of the state, and before a random number. The items of the table
/// are named alike, behind the bucket's name. A host has to allow no other key.
pub const KEY_INFIX: &str = ".cofferdam-probe-";

/// How many writers meet in a race.
const CONTENDERS: usize = 16;

/// How many races are run when the caller leaves it to us, and at most.
const DEFAULT_ROUNDS: u32 = 8;
const MAX_ROUNDS: u32 = 1000;

/// How often a request is made, each time as a new one, before its answer counts as not to be had.
const TRIES: u32 = 3;

/// The objects of a probe have some dozen bytes. Bytes.
const MAX_BODY: u64 = 64 << 10;

/// A probe of one store.
pub(crate) struct Probe<'a, P> {
    platform: &'a P,
    context: &'a Context<'a>,
    client: Rc<Client<'a, P>>,
    table: Option<&'a DynamoDb<'a, P>>,
    /// As configured, without what the store turned out not to take.
    settings: Settings,
    /// What the keys of its objects begin with.
    stem: String,
    /// How many keys and bodies it made.
    count: u32,
    rounds: u32,
    /// Time that is left for cleaning up.
    reserve: Duration,
    traces: Traces,
    report: Report,
}

impl<'a, P: Platform> Probe<'a, P> {
    pub(crate) fn new(
        platform: &'a P,
        context: &'a Context<'a>,
        client: Rc<Client<'a, P>>,
        table: Option<&'a DynamoDb<'a, P>>,
        rounds: u32,
    ) -> Self {
        let settings = context.settings.clone();
        let random = sign::hexadecimal(&platform.next_u64().to_be_bytes());
        let endpoint = settings.s3_url();
        Self {
            platform,
            context,
            table,
            stem: format!("{}{KEY_INFIX}{random}", settings.key),
            count: 0,
            rounds: match rounds {
                0 => DEFAULT_ROUNDS,
                rounds => rounds.min(MAX_ROUNDS),
            },
            reserve: client.remaining().unwrap_or_default() / 4,
            traces: Traces::default(),
            report: Report::new(endpoint, settings.bucket.clone(), CONTENDERS),
            client,
            settings,
        }
    }

    /// Tries everything out, removes what it made, and tells as JSON.
    ///
    /// # Errors
    /// Nothing could be found out.
    pub(crate) fn run(mut self, options: ProbeOptions) -> Result<String, Error> {
        let [bucket, table] = tried_out(&self.settings, options.even_aws);
        self.report.probed = bucket || table;
        if self.report.probed {
            self.report.rounds = self.rounds;
        }
        if bucket {
            self.reach_bucket()?;
            self.see_versioning();
            self.try_bucket();
        } else {
            self.see_versioning_once();
        }
        self.see_table(table);
        self.see_clock();
        self.clean_up();
        Ok(self.report.to_json())
    }

    /// Whether the bucket alone keeps two writers apart.
    fn relies_on_bucket(&self) -> bool {
        self.settings.use_lockfile || self.table.is_none()
    }

    fn has_time(&self) -> bool {
        self.client
            .remaining()
            .is_none_or(|left| left > self.reserve)
    }

    fn s3(&self) -> S3<'_, P> {
        S3::new(self.client.clone(), &self.settings, self.context.location)
    }

    /// A key that no other step uses.
    fn fresh_key(&mut self) -> String {
        self.count += 1;
        format!("{}-{}", self.stem, self.count)
    }

    /// A body that no other writer has.
    fn fresh_body(&mut self) -> String {
        self.count += 1;
        format!("{{\"cofferdam\":\"probe\",\"writer\":{}}}", self.count)
    }

    /// Stores an object, sent once.
    fn put(
        &mut self,
        key: &str,
        kind: Kind,
        body: &str,
        condition: Condition<'_>,
    ) -> Result<Answer, Cause> {
        self.traces.may_hold(key);
        let s3 = self.s3();
        let (answer, took) = self.once(s3.put_request(key, kind, payload(body), condition));
        self.report.took(Verb::Put, took);
        self.note(Some(key), &answer);
        answer
    }

    /// Has all of them stored at once under one key, each sent once.
    fn put_all(
        &mut self,
        key: &str,
        bodies: &[String],
        condition: Condition<'_>,
    ) -> Vec<Result<Answer, Cause>> {
        self.traces.may_hold(key);
        let answers = {
            let s3 = self.s3();
            let requests: Vec<_> = bodies
                .iter()
                .map(|body| s3.put_request(key, Kind::Lock, payload(body), condition))
                .collect();
            self.client.send_all_once(&requests)
        };
        for answer in &answers {
            self.note(Some(key), answer);
        }
        answers
    }

    /// Reads an object, sent once.
    fn get(&mut self, key: &str) -> Result<Answer, Cause> {
        let s3 = self.s3();
        let (answer, took) = self.once(s3.get_request(key, None, None, MAX_BODY));
        self.report.took(Verb::Get, took);
        self.note(None, &answer);
        answer
    }

    /// Removes an object, sent once.
    fn delete(&mut self, key: &str, tag: Option<&str>) -> Result<Answer, Cause> {
        let s3 = self.s3();
        let (answer, took) = self.once(s3.delete_request(key, None, tag));
        self.report.took(Verb::Delete, took);
        self.note(Some(key), &answer);
        if answer.is_ok() {
            self.traces.is_gone(key);
        }
        answer
    }

    /// What is stored, asked for as often as any read.
    fn stored(&self, key: &str) -> Result<Option<Stored>, Failed> {
        Ok(match self.s3().get(key, None, MAX_BODY)? {
            Got::Object(object) => Some(Stored {
                body: String::from_utf8(object.bytes).unwrap_or_default(),
                tag: object.tag,
            }),
            Got::TooLarge { tag, .. } => Some(Stored {
                body: String::new(),
                tag,
            }),
            Got::Absent | Got::Unchanged => None,
        })
    }

    /// Its answer, and how many milliseconds it took.
    fn once(&self, request: Request<'_>) -> (Result<Answer, Cause>, u64) {
        let start = self.platform.monotonic();
        let mut answers = self.client.send_all_once(&[request]);
        let took = self.platform.monotonic().saturating_sub(start);
        let answer = answers.pop().unwrap_or(Err(Cause::BudgetSpent));
        (answer, took.as_millis().try_into().unwrap_or(u64::MAX))
    }

    /// Keeps what an answer tells beside what was asked: the store's clock, and the version that was made of a key.
    fn note(&mut self, key: Option<&str>, answer: &Result<Answer, Cause>) {
        let date = match answer {
            Ok(answer) => answer.header("date").and_then(calendar::parse_http_date),
            Err(Cause::Store(error)) => error.date,
            Err(_) => None,
        };
        if self.report.clock_skew.is_none() {
            let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
            self.report.clock_skew = date.map(|date| seconds(date) - seconds(self.platform.now()));
        }
        let Some(key) = key else { return };
        if matches!(answer, Err(cause) if cause.may_have_happened()) {
            self.traces.may_arrive_late(key);
        }
        if let Ok(answer) = answer
            && let Some(version) = answer.header("x-amz-version-id")
        {
            let is_marker = answer.header("x-amz-delete-marker").is_some();
            self.traces.has_version(key, version, is_marker);
        }
    }

    /// Does something anew while the store is in trouble, and no longer than there is time.
    fn insist<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let mut tries = 1;
        if !self.has_time() {
            return Err(Cause::BudgetSpent);
        }
        loop {
            match attempt(self) {
                Err(cause) if tries < TRIES && self.is_worth_another(tries, &cause) => tries += 1,
                other => return other,
            }
        }
    }

    /// Waits before something is done anew; false when that is of no use, or there is no time.
    fn is_worth_another(&self, tries: u32, cause: &Cause) -> bool {
        is_passing(cause)
            && self.has_time()
            && retry::pause(tries, self.platform.next_u64(), cause)
                .is_some_and(|pause| self.client.pause(pause))
    }

    /// What became of a request whose condition does not hold.
    fn judge(&self, operation: Operation, key: &str, answer: Result<Answer, Cause>) -> Judged {
        let cause = match answer {
            Ok(_) => return Judged::Done,
            Err(cause) => cause,
        };
        let told = self.told(operation, key, &cause);
        match &cause {
            Cause::Store(error) if error.is_failed_condition() => Judged::Refused,
            Cause::Store(error) if is_unsupported(error) => Judged::Unsupported(told),
            _ => Judged::Unclear(told),
        }
    }

    /// A failure, in words.
    fn told(&self, operation: Operation, key: &str, cause: &Cause) -> String {
        let failed = Failed {
            operation,
            key: key.to_owned(),
            failure: Failure {
                cause: cause.clone(),
                attempts: 1,
                ambiguous: false,
                out_of_time: false,
                wrong_clock: retry::verdict(cause, self.platform.now())
                    == retry::Verdict::Resynchronise,
            },
        };
        self.words(&failed)
    }

    fn words(&self, failed: &Failed) -> String {
        let mut message = self.context.failed(failed).message;
        if let Some(first) = message.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        message
    }
}

/// An object as it is stored.
struct Stored {
    body: String,
    tag: Option<String>,
}

/// What became of a request whose condition does not hold.
enum Judged {
    /// The store did it all the same.
    Done,
    Refused,
    /// Nobody can tell, and why.
    Unclear(String),
    /// The store does not know conditions, and says so.
    Unsupported(String),
}

fn payload(body: &str) -> Payload<'_> {
    Payload {
        bytes: body.as_bytes(),
        sha256: Sha256::digest(body).into(),
    }
}

/// Whether the same question may well be answered later.
fn is_passing(cause: &Cause) -> bool {
    match cause {
        Cause::Store(error) => retry::is_transient(error) || error.is_conflict(),
        cause => retry::verdict(cause, Duration::ZERO) == retry::Verdict::Again,
    }
}

/// Whether the store refuses what it does not know, and not for want of rights or because it is in trouble.
fn is_unsupported(error: &StoreError) -> bool {
    let is_about_request = matches!(
        error.code(),
        "" | "BadRequest" | "InvalidArgument" | "InvalidHeader" | "InvalidRequest"
    );
    error.is_not_implemented() || (error.status == 400 && is_about_request)
}

/// Whether the bucket is tried out, and whether the table is.
pub(crate) fn tried_out(settings: &Settings, even_aws: bool) -> [bool; 2] {
    [
        even_aws || !is_aws(settings.s3_endpoint.as_ref()),
        settings.dynamodb_table.is_some()
            && (even_aws || !is_aws(settings.dynamodb_endpoint.as_ref())),
    ]
}

/// Whether an endpoint is one of AWS's own, also when the configuration spells it out.
fn is_aws(endpoint: Option<&Sourced<String>>) -> bool {
    const SUFFIXES: [&str; 3] = [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"];
    endpoint.is_none_or(|endpoint| {
        let host = endpoint.value.strip_prefix("https://");
        host.is_some_and(|host| SUFFIXES.iter().any(|suffix| host.ends_with(suffix)))
    })
}
