//! Whether to lock at all: a store that ignores the condition of a write, or is racy, gives the same lock to two.
//!
//! What `doctor` found decides; AWS's own endpoints count as safe. The same judgement serves the gateway, which
//! refuses every lock, and the commands, which end before they change anything.

use cofferdam::{Severity, Verdict};
use jiff::Timestamp;

use crate::failure::{Failure, diagnostic};
use crate::session::Session;
use crate::site::Site;
use crate::verdict::{Record, load, place};

/// A store may have been replaced since.
const OLD: i64 = 30 * 86_400;

/// What the names of checks of the DynamoDB table begin with.
const TABLE: &str = "table-";

/// What there is to say before a lock is taken.
#[derive(Debug, PartialEq)]
enum Safety {
    /// Perhaps with a remark.
    Safe(Option<String>),
    Unknown(String),
    Unsafe(String),
}

/// For a gateway: warns of what is unsafe or unknown. Answers why it has to refuse every lock, if it has to.
pub(crate) async fn at_start(session: &Session) -> Result<Option<String>, Failure> {
    let warn = |summary: &str, detail: String| {
        let warning = diagnostic(Severity::Warning, summary, detail);
        session.output.diagnostic(&warning);
    };
    match safety(session).await? {
        Safety::Safe(None) => {}
        Safety::Safe(Some(remark)) => warn("Old verdict about this store", remark),
        Safety::Unknown(reason) => warn("Locking may not be safe here", reason),
        Safety::Unsafe(reason) if session.global.allow_unsafe_locking => {
            warn("Locking is not safe here", reason);
        }
        Safety::Unsafe(reason) => {
            warn(
                "Every lock will be refused",
                format!("{reason}\n\n{REMEDY}"),
            );
            return Ok(Some(format!("{reason}\n{REMEDY}")));
        }
    }
    Ok(None)
}

/// For a command that is about to lock: refuses where that is known to be unsafe. It does not nag about what is
/// unknown.
pub(crate) async fn require(session: &Session) -> Result<(), Failure> {
    match safety(session).await? {
        Safety::Unsafe(reason) if !session.global.allow_unsafe_locking => {
            Err(Failure::new("Locking is not safe here", reason).with_advice(REMEDY))
        }
        _ => Ok(()),
    }
}

const REMEDY: &str = "Use another store, or lock with a DynamoDB table alone. Once the store is mended, let \
`cofferdam doctor` look at it again. To lock all the same, give --allow-unsafe-locking.";

async fn safety(session: &Session) -> Result<Safety, Failure> {
    let site = session.site().await?;
    let found = match place(session.global.verdict.as_deref(), &site) {
        Some(path) => load(&path, &site),
        None => Ok(None),
    };
    Ok(judge(&site, found, Timestamp::now()))
}

fn judge(site: &Site, found: Result<Option<Record>, String>, now: Timestamp) -> Safety {
    let name = format!("bucket {:?} at {}", site.bucket, site.endpoint);
    let (record, trouble) = match found {
        Ok(record) => (record, None),
        Err(trouble) => (None, Some(trouble)),
    };
    if let Some(record) = &record {
        let day = record.date.strftime("%Y-%m-%d");
        if is_unsafe(record, site) {
            let reasons: String = record
                .reasons
                .iter()
                .map(|it| format!("\n  - {it}"))
                .collect();
            return Safety::Unsafe(format!(
                "On {day} `cofferdam doctor` found that {name} does not keep two writers apart:{reasons}"
            ));
        }
        if record.verdict == Verdict::Safe && covers(record, site) {
            let age = now.as_second().saturating_sub(record.date.as_second());
            return Safety::Safe((age > OLD).then(|| {
                format!(
                    "`cofferdam doctor` looked at {name} on {day}, {} days ago. Let it look again.",
                    age / 86_400
                )
            }));
        }
    }
    if !site.lockfile || site.is_aws() {
        return Safety::Safe(None);
    }
    let why = match (record, trouble) {
        (_, Some(trouble)) => format!("What is kept tells nothing: {trouble}."),
        (Some(record), None) => format!(
            "On {} `cofferdam doctor` {}.",
            record.date.strftime("%Y-%m-%d"),
            match covers(&record, site) {
                true => "could not tell",
                false => "looked at it for a backend block that locks elsewhere",
            }
        ),
        (None, None) => "Nobody has tried it out.".to_owned(),
    };
    Safety::Unknown(format!(
        "Some stores silently ignore the condition that a lock depends on, or check it too late: then two writers \
         hold the lock at once. It is not known how {name} does it. {why} To find out, run `cofferdam doctor` with \
         the same backend block."
    ))
}

/// Whether a verdict is about every place that the configuration locks in.
fn covers(record: &Record, site: &Site) -> bool {
    let same_table = site.table.is_none() || site.table == record.dynamodb_table;
    let places = site.places();
    same_table
        && places
            .iter()
            .all(|place| record.locks.iter().any(|it| it == place))
}

/// Whether a configuration relies on anything that failed. A lock in a table alone does not need conditional writes of
/// the bucket, and the other way round; a verdict that says safe may be about the other one.
fn is_unsafe(record: &Record, site: &Site) -> bool {
    let says_safe = record.verdict != Verdict::Unsafe;
    if says_safe && covers(record, site) {
        return false;
    }
    let relied_on = |check: &String| match check.starts_with(TABLE) {
        true => site.table.is_some() && site.table == record.dynamodb_table,
        false => site.lockfile,
    };
    match record.failed_checks.is_empty() {
        true => !says_safe && site.lockfile,
        false => record.failed_checks.iter().any(relied_on),
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;

    use super::*;
    use crate::verdict::tests::{record, site};

    fn judged(site: &Site, record: Option<Record>) -> Safety {
        judge(site, Ok(record), Timestamp::now())
    }

    #[test]
    fn an_unsafe_verdict_counts_where_the_lock_relies_on_what_failed() {
        let in_bucket = site();
        let in_table = Site {
            lockfile: false,
            table: Some("locks".to_owned()),
            ..site()
        };
        let about_table = |name: &str| {
            let mut record = record(Verdict::Unsafe, &["table-create-only-refused"]);
            record.dynamodb_table = Some(name.to_owned());
            record
        };
        for (site, record, refused) in [
            (&in_bucket, record(Verdict::Unsafe, &["race"]), true),
            (&in_bucket, record(Verdict::Unsafe, &[]), true),
            (&in_table, record(Verdict::Unsafe, &["race"]), false),
            (&in_table, about_table("locks"), true),
            (&in_table, about_table("others"), false),
            (&in_bucket, about_table("locks"), false),
        ] {
            let safety = judged(site, Some(record.clone()));
            assert_eq!(
                matches!(safety, Safety::Unsafe(_)),
                refused,
                "{record:?}: {safety:?}"
            );
        }
    }

    #[test]
    fn a_safe_verdict_about_the_table_says_nothing_of_the_bucket() {
        let about_table = |failed: &[&str]| {
            let mut record = record(Verdict::Safe, failed);
            record.locks = vec!["dynamodb".to_owned()];
            record.dynamodb_table = Some("locks".to_owned());
            record
        };
        let in_both = Site {
            table: Some("locks".to_owned()),
            ..site()
        };
        for site in [&site(), &in_both] {
            let safety = judged(site, Some(about_table(&[])));
            assert!(matches!(safety, Safety::Unknown(_)), "{safety:?}");
            let safety = judged(site, Some(about_table(&["one-creator-wins"])));
            assert!(matches!(safety, Safety::Unsafe(_)), "{safety:?}");
        }
        let in_table = Site {
            lockfile: false,
            ..in_both
        };
        let safety = judged(&in_table, Some(about_table(&["one-creator-wins"])));
        assert_eq!(safety, Safety::Safe(None));
    }

    #[test]
    fn the_refusal_names_reason_store_and_date() {
        let Safety::Unsafe(reason) = judged(&site(), Some(record(Verdict::Unsafe, &["race"])))
        else {
            panic!("not unsafe")
        };
        for part in ["the reason", "tfstate", "http://127.0.0.1:9000", "On 2"] {
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn what_is_unknown_is_said_unless_it_does_not_matter() {
        let aws = Site {
            endpoint: "https://s3.eu-west-1.amazonaws.com".to_owned(),
            ..site()
        };
        let in_table = Site {
            lockfile: false,
            table: Some("locks".to_owned()),
            ..site()
        };
        assert_eq!(judged(&aws, None), Safety::Safe(None));
        assert_eq!(judged(&in_table, None), Safety::Safe(None));
        assert!(matches!(judged(&site(), None), Safety::Unknown(_)));
        let unknown = record(Verdict::Unknown, &[]);
        assert!(matches!(judged(&site(), Some(unknown)), Safety::Unknown(_)));
        let trouble = judge(&site(), Err("it is lost".to_owned()), Timestamp::now());
        assert!(
            matches!(&trouble, Safety::Unknown(text) if text.contains("it is lost.")),
            "{trouble:?}"
        );
    }

    #[test]
    fn a_safe_verdict_is_taken_and_an_old_one_mentioned() {
        let mut record = record(Verdict::Safe, &[]);
        assert_eq!(judged(&site(), Some(record.clone())), Safety::Safe(None));
        record.date = Timestamp::now().checked_sub((31 * 24).hours()).unwrap();
        let Safety::Safe(Some(remark)) = judged(&site(), Some(record)) else {
            panic!("nothing was said")
        };
        assert!(remark.contains("31 days"), "{remark}");
    }

    #[test]
    fn an_unsafe_verdict_stands_on_aws_and_however_old_it_is() {
        let mut record = record(Verdict::Unsafe, &["race"]);
        record.date = Timestamp::UNIX_EPOCH;
        let aws = Site {
            endpoint: "https://s3.eu-west-1.amazonaws.com".to_owned(),
            ..site()
        };
        assert!(matches!(judged(&aws, Some(record)), Safety::Unsafe(_)));
    }
}
