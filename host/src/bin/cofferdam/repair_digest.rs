//! `repair digest`: mends the digest that DynamoDB holds of a state, after showing what it does not fit.
//!
//! A wrong digest keeps everybody out. But it may be right, and the state wrong: then it tells of a newer state that
//! was lost, and to overwrite the digest would hide that.
//!
//! `--json`: `{"format_version", "workspace", "table", "item", "recorded", "stored", "described", "action": "none",
//! "recorded" or "removed", "digest"}`; a generation is `{"revision", "size", "md5", "serial", "lineage"}` or null.

use std::fmt::Write as _;

use cofferdam::{DigestReport, ErrorCode, Generation, HeldLock, Severity, Store};
use serde_json::json;

use crate::arguments::RepairDigestOptions;
use crate::confirm::confirm;
use crate::failure::{Failure, diagnostic};
use crate::locking::{Guard, under_lock};
use crate::output::{data, json, printable};
use crate::session::Session;

pub(crate) async fn run(session: &Session, options: &RepairDigestOptions) -> Result<(), Failure> {
    let workspace = session.workspace()?;
    let store = session.open().await?;
    let work = Repair {
        session,
        store: &store,
        workspace: &workspace,
        options,
    };
    if options.lock {
        under_lock(
            session,
            &store,
            &workspace,
            "repair-digest",
            async |guard| work.run(guard.lock.as_ref(), Some(guard)).await,
        )
        .await
    } else {
        session.output.diagnostic(&diagnostic(
            Severity::Warning,
            "No state lock",
            "Working without a lock, as --lock=false says. Nobody else may write this state meanwhile.",
        ));
        work.run(None, None).await
    }
}

/// What is to be done about a digest.
#[derive(Debug, PartialEq, Eq)]
enum Plan<'a> {
    Nothing,
    Record(&'a str),
    Remove,
}

struct Repair<'a> {
    session: &'a Session,
    store: &'a Store,
    workspace: &'a str,
    options: &'a RepairDigestOptions,
}

impl Repair<'_> {
    async fn run(&self, lock: Option<&HeldLock>, guard: Option<&Guard>) -> Result<(), Failure> {
        let report = self
            .store
            .compare_digest(self.workspace)
            .await
            .map_err(|error| Failure::store("Cannot compare the digest", &error))?;
        if !self.options.format.json {
            data(told(self.workspace, &report).as_bytes())?;
        }
        let plan = plan(&report, self.options)?;
        if plan != Plan::Nothing {
            if !self.options.yes {
                ask(question(&plan, &report), guard).await?;
            }
            if let Some(guard) = guard {
                guard.check()?;
            }
            let digest = match plan {
                Plan::Record(digest) => Some(digest),
                Plan::Nothing | Plan::Remove => None,
            };
            self.store
                .record_digest(self.workspace, report.recorded.as_deref(), digest, lock)
                .await
                .map_err(|error| refused(&error))?;
        }
        self.conclude(&plan, &report)
    }

    fn conclude(&self, plan: &Plan<'_>, report: &DigestReport) -> Result<(), Failure> {
        let (action, digest, text) = match plan {
            Plan::Nothing => (
                "none",
                report.recorded.as_deref(),
                match report.recorded {
                    Some(_) => "The recorded digest is right: there is nothing to repair.".to_owned(),
                    None => "No digest is recorded, which keeps nobody out: there is nothing to repair. The next \
                             write records one."
                        .to_owned(),
                },
            ),
            Plan::Record(digest) => (
                "recorded",
                Some(*digest),
                format!("The digest {digest} was recorded."),
            ),
            Plan::Remove => ("removed", None, "The digest was removed.".to_owned()),
        };
        if !self.options.format.json {
            self.session.output.message(&text);
            return Ok(());
        }
        json(json!({
            "workspace": self.workspace,
            "table": report.table,
            "item": report.item,
            "recorded": report.recorded,
            "stored": report.stored,
            "described": report.described,
            "action": action,
            "digest": digest,
        }))
    }
}

/// What to do, or why not to do it.
fn plan<'a>(report: &'a DigestReport, options: &RepairDigestOptions) -> Result<Plan<'a>, Failure> {
    expected(report.stored.as_ref(), options)?;
    let Some(recorded) = &report.recorded else {
        return Ok(Plan::Nothing);
    };
    let wanted = match &report.stored {
        Some(stored) if !options.remove => Some(stored.md5.as_str()),
        _ => None,
    };
    if wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(recorded)) {
        return Ok(Plan::Nothing);
    }
    if !options.force {
        not_lost(report)?;
    }
    Ok(wanted.map_or(Plan::Remove, Plan::Record))
}

/// The stored state must be the one that the person means.
fn expected(stored: Option<&Generation>, options: &RepairDigestOptions) -> Result<(), Failure> {
    let serial = stored.and_then(|it| it.serial);
    let lineage = stored.and_then(|it| it.lineage.as_deref());
    let right = options.serial.is_none_or(|it| serial == Some(it))
        && options
            .lineage
            .as_deref()
            .is_none_or(|it| lineage == Some(it));
    match (right, stored) {
        (true, _) => Ok(()),
        (false, None) => Err(Failure::new(
            "This is not the expected state",
            "No state is stored. Nothing was changed.",
        )),
        (false, Some(stored)) => Err(Failure::new(
            "This is not the expected state",
            format!(
                "What is stored has {}. Nothing was changed.",
                header(stored)
            ),
        )),
    }
}

/// The recorded digest must not tell of a state that is newer than the stored one, or of another one altogether.
fn not_lost(report: &DigestReport) -> Result<(), Failure> {
    let Some(described) = &report.described else {
        return Ok(());
    };
    let (why, otherwise) = match &report.stored {
        None => ("no state is stored now", "If there is to be no state"),
        Some(stored) if stored.lineage != described.lineage => (
            "the stored state has another lineage",
            "If the stored state is the right one",
        ),
        Some(stored) if described.serial > stored.serial => (
            "the stored state is older",
            "If the stored state is the right one",
        ),
        Some(_) => return Ok(()),
    };
    let version = match &described.revision.version {
        Some(version) => format!("version {version}"),
        None => format!("the generation {}", described.revision.tag),
    };
    Err(Failure::new(
        "The digest belongs to a state that was lost",
        format!(
            "The recorded digest is that of {version}, which the bucket still keeps, with {}; {why}. Somebody may have \
             restored, overwritten or deleted it by hand. If that version is the right one, restore it, and the digest is \
             right. {otherwise}, give --force. Nothing was changed.",
            header(described)
        ),
    ))
}

/// Asks on a thread of its own: a signal must end it, and release the lock, before anybody answers.
async fn ask(question: String, guard: Option<&Guard>) -> Result<(), Failure> {
    let answer = tokio::task::spawn_blocking(move || confirm(&question, "repair digest", "--yes"));
    let stopped = async {
        match guard {
            Some(guard) => guard.stopped().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        answer = answer => answer.map_err(|error| Failure::new("Cannot ask", format!("{error}.")))?,
        // The check that follows says so.
        () = stopped => Ok(()),
    }
}

fn question(plan: &Plan<'_>, report: &DigestReport) -> String {
    let item = printable(&report.item);
    let table = printable(&report.table);
    let what = match plan {
        Plan::Record(digest) => format!("The digest {digest} will be recorded"),
        Plan::Nothing | Plan::Remove => "The digest will be removed".to_owned(),
    };
    format!(
        "Do you really want to change the digest?\n  {what} in the item \"{item}\" of the table \"{table}\".\n  From \
         then on everybody takes the stored state for the right one."
    )
}

/// Both sides, for a person.
fn told(workspace: &str, report: &DigestReport) -> String {
    let mut text = format!(
        "Workspace \"{}\": item \"{}\" of the table \"{}\"\n\n",
        printable(workspace),
        printable(&report.item),
        printable(&report.table)
    );
    let recorded = report.recorded.as_deref().unwrap_or("none");
    // A String takes all that is written to it.
    let _ = writeln!(text, "  recorded digest   {}", printable(recorded));
    if let Some(described) = &report.described {
        let _ = writeln!(text, "    belongs to      {}", generation(described));
    } else if report.recorded.is_some()
        && report.recorded.as_deref() != report.stored.as_ref().map(|it| it.md5.as_str())
    {
        let _ = writeln!(
            text,
            "    belongs to      nothing that the bucket still keeps"
        );
    }
    match &report.stored {
        None => text += "  stored state      none\n",
        Some(stored) => {
            let _ = writeln!(text, "  stored state      {}", printable(&stored.md5));
            let _ = writeln!(text, "    is              {}", generation(stored));
        }
    }
    text
}

fn generation(it: &Generation) -> String {
    let version = match &it.revision.version {
        Some(version) => format!(", version {}", printable(version)),
        None => String::new(),
    };
    format!("{}, {} bytes{version}", header(it), it.size)
}

fn header(it: &Generation) -> String {
    let serial = it.serial.map_or_else(
        || "no readable serial".to_owned(),
        |serial| format!("serial {serial}"),
    );
    let lineage = it.lineage.as_deref().map_or_else(
        || "no readable lineage".to_owned(),
        |lineage| format!("lineage {}", printable(lineage)),
    );
    format!("{serial}, {lineage}")
}

fn refused(error: &cofferdam::Error) -> Failure {
    let failure = Failure::store("Cannot mend the digest", error);
    match error.code() {
        Some(ErrorCode::StateChanged) => failure.with_advice(
            "Somebody else changed the digest in the meantime. Run this command again to compare once more.",
        ),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use cofferdam::Revision;

    use super::*;
    use crate::arguments::Format;

    fn state(md5: &str, serial: u64, lineage: &str) -> Generation {
        Generation {
            revision: Revision {
                tag: "\"e\"".to_owned(),
                version: Some("v1".to_owned()),
            },
            size: 156,
            md5: md5.to_owned(),
            serial: Some(serial),
            lineage: Some(lineage.to_owned()),
        }
    }

    fn report(
        recorded: Option<&str>,
        stored: Option<Generation>,
        described: Option<Generation>,
    ) -> DigestReport {
        DigestReport {
            table: "locks".to_owned(),
            item: "b/k-md5".to_owned(),
            recorded: recorded.map(str::to_owned),
            stored,
            described,
        }
    }

    fn options(change: impl FnOnce(&mut RepairDigestOptions)) -> RepairDigestOptions {
        let mut options = RepairDigestOptions {
            force: false,
            lineage: None,
            lock: true,
            remove: false,
            serial: None,
            yes: true,
            format: Format { json: false },
        };
        change(&mut options);
        options
    }

    fn no_options() -> RepairDigestOptions {
        options(|_| {})
    }

    #[test]
    fn a_digest_that_is_right_or_missing_is_left_alone() {
        let stored = Some(state("aa", 3, "l"));
        for report in [
            report(Some("aa"), stored.clone(), None),
            report(None, stored, None),
            report(None, None, None),
        ] {
            assert_eq!(plan(&report, &no_options()).unwrap(), Plan::Nothing);
        }
    }

    #[test]
    fn a_wrong_digest_is_recorded_anew_and_one_without_a_state_removed() {
        let stored = Some(state("aa", 3, "l"));
        let older = Some(state("bb", 2, "l"));
        for report in [
            report(Some("bb"), stored.clone(), None),
            report(Some("bb"), stored.clone(), older),
        ] {
            assert_eq!(plan(&report, &no_options()).unwrap(), Plan::Record("aa"));
            let remove = options(|it| it.remove = true);
            assert_eq!(plan(&report, &remove).unwrap(), Plan::Remove);
        }
        let without = report(Some("bb"), None, None);
        assert_eq!(plan(&without, &no_options()).unwrap(), Plan::Remove);
    }

    #[test]
    fn a_digest_that_tells_of_a_lost_state_is_changed_by_force_alone() {
        let stored = Some(state("aa", 3, "l"));
        for (stored, described, because) in [
            (stored.clone(), state("bb", 4, "l"), "is older"),
            (stored, state("bb", 1, "other"), "another lineage"),
            (None, state("bb", 1, "l"), "no state is stored"),
        ] {
            let report = report(Some("bb"), stored, Some(described));
            let detail = &plan(&report, &no_options()).unwrap_err().diagnostics[0].detail;
            assert!(
                detail.contains(because) && detail.contains("version v1"),
                "{detail}"
            );
            assert!(plan(&report, &options(|it| it.force = true)).is_ok());
        }
    }

    #[test]
    fn the_state_must_be_the_one_that_the_person_names() {
        let report = report(Some("bb"), Some(state("aa", 3, "l")), None);
        let right = options(|it| {
            it.serial = Some(3);
            it.lineage = Some("l".to_owned());
        });
        assert_eq!(plan(&report, &right).unwrap(), Plan::Record("aa"));
        let other_serial = options(|it| it.serial = Some(2));
        let other_lineage = options(|it| {
            it.lineage = Some("m".to_owned());
            it.force = true;
        });
        for wrong in [other_serial, other_lineage] {
            let detail = &plan(&report, &wrong).unwrap_err().diagnostics[0].detail;
            assert!(detail.contains("serial 3, lineage l"), "{detail}");
        }
    }

    #[test]
    fn both_sides_are_shown_and_control_characters_are_not() {
        let stored = state("aa", 3, "l\u{1b}[2J");
        let text = told(
            "default",
            &report(Some("bb"), Some(stored), Some(state("bb", 4, "l"))),
        );
        for part in [
            "recorded digest   bb",
            "serial 4, lineage l, 156 bytes, version v1",
            "stored state      aa",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
