//! `doctor`: whether locking is safe in the store, found out in the store.
//!
//! `--json`: the component's report, `{"format_version", "verdict", "reasons", "endpoint", "bucket", "rounds",
//! "contenders", "probed", "checks": [{"name", "outcome", "detail", "latency_ms"}], "versioning", …}`, and
//! `"remembered"`: the file of the verdict, or null.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cofferdam::{CheckOutcome, ProbeOptions, ProbeReport, Severity, Verdict};

use crate::arguments::DoctorOptions;
use crate::failure::{Failure, diagnostic};
use crate::output::{data, json, printable, wrapped};
use crate::session::Session;
use crate::verdict::{Record, load, place, save};

/// It could not be told whether locking is safe.
const UNKNOWN: u8 = 1;
/// Locking is not safe.
const UNSAFE: u8 = 2;

/// Answers the exit code: 0 when locking is safe.
pub(crate) async fn run(session: &Session, options: &DoctorOptions) -> Result<u8, Failure> {
    // A signal does not end the probe: it has keys to remove.
    session.interrupt()?;
    let store = session.open().await?;
    let rounds = options.rounds.unwrap_or_default();
    let probe = ProbeOptions::default()
        .rounds(rounds)
        .wall_clock(Duration::from_secs(600 + 2 * u64::from(rounds)))
        .even_aws(options.even_aws);
    let report = store
        .probe(probe)
        .await
        .map_err(|error| Failure::store("Could not tell whether locking is safe", &error))?;
    let remembered = if report.probed {
        remember(session, &report, store.component_sha256()).await
    } else {
        Ok(None)
    };
    let file = remembered.as_ref().ok().and_then(Option::as_ref);
    if options.format.json {
        let mut whole = report.json.clone();
        whole["remembered"] = file.map(|path| path.display().to_string()).into();
        json(whole)?;
    } else {
        data(told(&report).as_bytes())?;
        if let Some(path) = file {
            let path = path.display();
            session
                .output
                .message(&format!("\nThe verdict is remembered in {path}."));
        }
    }
    let code = match report.verdict {
        Verdict::Safe => 0,
        Verdict::Unsafe => UNSAFE,
        _ => UNKNOWN,
    };
    match remembered {
        Ok(_) => Ok(code),
        Err(failure) => Err(Failure {
            code: code.max(UNKNOWN),
            ..failure
        }),
    }
}

/// Keeps the verdict for the commands that lock. Fails only when a file that the person named cannot be written.
async fn remember(
    session: &Session,
    report: &ProbeReport,
    component: &str,
) -> Result<Option<PathBuf>, Failure> {
    let site = session.site().await?;
    let named = session.global.verdict.as_deref();
    let not_kept =
        |reason: String| diagnostic(Severity::Warning, "The verdict is not remembered", reason);
    let Some(path) = place(named, &site) else {
        let reason = "There is neither HOME nor XDG_CACHE_HOME. Name a file with --verdict.";
        session.output.diagnostic(&not_kept(reason.to_owned()));
        return Ok(None);
    };
    let record = Record::new(&site, report, component);
    if record.verdict == Verdict::Unknown
        && let Ok(Some(earlier)) = load(&path, &site)
        && earlier.verdict == Verdict::Unsafe
    {
        let reason = format!(
            "The earlier one in {} says unsafe, and stands.",
            path.display()
        );
        session.output.diagnostic(&not_kept(reason));
        return Ok(None);
    }
    let Err(error) = save(&path, &record) else {
        return Ok(Some(path));
    };
    let reason = format!("{}: {error}.", path.display());
    if named.is_some() {
        return Err(Failure::new("Cannot write the verdict", reason));
    }
    session.output.diagnostic(&not_kept(reason));
    Ok(None)
}

/// The report for a person.
fn told(report: &ProbeReport) -> String {
    let name = format!(
        "bucket \"{}\" at {}",
        printable(&report.bucket),
        printable(&report.endpoint)
    );
    let mut text = match report.probed {
        true => format!("Tried out {name}.\n\n"),
        false => format!("Nothing was tried out in {name}.\n\n"),
    };
    text += &checks(report);
    text += &latencies(report);
    text += match report.verdict {
        Verdict::Safe => "Locking is safe here, as far as a probe can tell.\n",
        Verdict::Unsafe => "Locking is NOT SAFE here.\n",
        _ => "It could not be told whether locking is safe here.\n",
    };
    for reason in &report.reasons {
        for (index, line) in printable(reason).lines().flat_map(wrapped).enumerate() {
            let mark = if index == 0 { "-" } else { " " };
            text += &format!("  {mark} {line}\n");
        }
    }
    if report.probed {
        text += &rounds(report);
    } else if report.verdict == Verdict::Safe {
        text += "\nTo try it out all the same, give --even-aws.\n";
    }
    if !report.suggestions.is_empty() {
        text += "\nArguments that fit this store, for a .tfbackend file:\n\n";
        for line in &report.suggestions {
            text += &format!("  {}\n", printable(line));
        }
    }
    text
}

/// One line for each check. What stands among the reasons is not said twice.
fn checks(report: &ProbeReport) -> String {
    let width = report.checks.iter().map(|it| it.name.chars().count()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for check in &report.checks {
        let outcome = match check.outcome {
            CheckOutcome::Failed => "FAILED",
            CheckOutcome::Ok => "ok",
            CheckOutcome::Warning => "warning",
            _ => "not tested",
        };
        let detail = match report.reasons.contains(&check.detail) {
            true => String::new(),
            false => printable(&check.detail).replace('\n', " "),
        };
        let name = printable(&check.name);
        let line = format!("{outcome:<10}  {name:<width$}  {detail}");
        // A String takes all that is written to it.
        let _ = writeln!(text, "  {}", line.trim_end());
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn latencies(report: &ProbeReport) -> String {
    let times: Vec<String> = report
        .latency_ms
        .iter()
        .filter_map(|(verb, time)| Some(format!("{} {} ms", printable(verb), (*time)?)))
        .collect();
    match times.is_empty() {
        true => String::new(),
        false => format!("A request takes: {}.\n\n", times.join(", ")),
    }
}

fn rounds(report: &ProbeReport) -> String {
    format!(
        "\nA probe can prove that a store is racy; it cannot prove that it never is. {} rounds of {} writers were run;\nfor \
         more, give --rounds.\n",
        report.rounds, report.contenders
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(change: Value) -> ProbeReport {
        let mut report = json!({
            "verdict": "safe", "endpoint": "http://127.0.0.1:9000", "bucket": "b", "rounds": 8,
            "contenders": 16, "probed": true,
            "checks": [
                {"name": "create-only", "outcome": "ok", "detail": "refused with 412"},
                {"name": "race", "outcome": "failed", "detail": "two\nwinners\u{1b}[2J"},
                {"name": "sse", "outcome": "not-tested"},
                {"name": "versioning", "outcome": "warning", "detail": "off"},
            ],
            "versioning": {"status": "Disabled", "advice": "Switch it on."},
            "latency_ms": {"get": 1, "put": null},
            "suggestions": ["use_lockfile = true"],
            "reasons": ["off"],
        });
        if let (Value::Object(report), Value::Object(change)) = (&mut report, change) {
            report.extend(change);
        }
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn each_check_has_a_line_with_its_outcome() {
        let text = told(&report(json!({})));
        for line in [
            "  ok          create-only  refused with 412",
            "  FAILED      race         two winners\\u{1b}[2J",
            "  not tested  sse",
            "  warning     versioning",
            "  - off",
            "  use_lockfile = true",
            "A request takes: get 1 ms.",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(
            text.contains("8 rounds of 16 writers were run") && text.contains("cannot prove"),
            "{text}"
        );
    }

    #[test]
    fn the_verdict_is_a_sentence_with_its_reasons() {
        for (verdict, sentence) in [
            ("safe", "Locking is safe here, as far as a probe can tell."),
            ("unsafe", "Locking is NOT SAFE here."),
            (
                "unknown",
                "It could not be told whether locking is safe here.",
            ),
        ] {
            let text = told(&report(json!({"verdict": verdict, "reasons": ["because"]})));
            assert!(
                text.contains(&format!("{sentence}\n  - because\n")),
                "{text}"
            );
        }
    }

    #[test]
    fn what_was_not_tried_out_is_not_said_to_be() {
        let text = told(&report(json!({"probed": false, "checks": [], "rounds": 0})));
        assert!(
            text.starts_with("Nothing was tried out") && !text.contains("rounds"),
            "{text}"
        );
        assert!(text.contains("--even-aws"), "{text}");
    }
}
