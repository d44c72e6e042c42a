//! The real Terraform and cofferdam, given the same files, environment and block: the same key must sign, for the same
//! region, at the same endpoint, and what one refuses the other must refuse in the same words.
//!
//! Every difference is either a defect or stands here with its reason. The table of all cases is
//! `docs/terraform-differences.md`; `COFFERDAM_BLESS=1` rewrites it, `-- --nocapture` prints it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

#[path = "same_as_terraform/bench.rs"]
mod bench;
#[path = "same_as_terraform/credentials.rs"]
mod credentials;
#[path = "same_as_terraform/differences.rs"]
mod differences;
#[path = "same_as_terraform/outcome.rs"]
mod outcome;
#[path = "same_as_terraform/settings.rs"]
mod settings;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cofferdam_tests::tools::workspace_root;
use futures_util::{StreamExt as _, stream};

use bench::{Both, Case, Difference, run};
use differences::DIFFERENCES;

/// Cases that run at the same time.
const AT_ONCE: usize = 4;

/// What was asked of this project: at least so many.
const AT_LEAST: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn terraform_and_cofferdam_do_the_same() {
    let Some(terraform) = bench::terraform().await else {
        return;
    };
    let mut cases = [credentials::cases(), settings::cases()].concat();
    let only = std::env::var("COFFERDAM_CASE").ok();
    if let Some(only) = &only {
        cases.retain(|case| case.name.contains(only.as_str()));
    }
    let outcomes: Vec<Both> = stream::iter(&cases)
        .map(|case| run(case, &terraform))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let table = table(&cases, &outcomes);
    println!("{table}");

    let wrong: Vec<String> = cases
        .iter()
        .zip(&outcomes)
        .filter_map(|(case, both)| judge(case, both))
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    if only.is_none() {
        is_written_down(&table);
    }
}

/// What differs in a case on purpose.
fn difference(case: &Case) -> Option<Difference> {
    let mut listed = DIFFERENCES.iter().filter(|(name, _)| *name == case.name);
    listed.next().map(|(_, difference)| *difference)
}

/// Each case has a name of its own, and each difference is one of a case.
#[test]
fn every_difference_is_one_of_a_case() {
    let cases = [credentials::cases(), settings::cases()].concat();
    let mut names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
    let differences = DIFFERENCES.iter().map(|(name, _)| *name);
    let unknown: Vec<&str> = differences.filter(|name| !names.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(names.len() >= AT_LEAST);
}

/// What is wrong in a case. A reason for a difference that is none is wrong, too.
fn judge(case: &Case, both: &Both) -> Option<String> {
    let (theirs, ours) = (&both.terraform, &both.ours);
    let fault = match difference(case) {
        None if theirs == ours => return None,
        None => "they differ",
        Some(_) if theirs == ours => "they do the same",
        Some(Difference::Outcome(_)) => return None,
        Some(Difference::Words(cause, _)) => {
            let both_say_it = theirs.says(cause) && ours.says(cause);
            if both_say_it && ours.calls_no_more_than(theirs) {
                return None;
            }
            "more than words differs"
        }
    };
    Some(format!(
        "{}: {fault}\n{}",
        case.name,
        theirs.difference_to(ours)
    ))
}

fn table(cases: &[Case], outcomes: &[Both]) -> String {
    let mut table = String::from(
        "# Terraform and cofferdam, case by case\n\n\
         <!-- Generated: COFFERDAM_BLESS=1 cargo test --release --test same_as_terraform -->\n\n\
         Terraform 1.11.4 and cofferdam, given the same files, environment and backend block: which services they ask for\n\
         credentials, which key then signs the requests to the store, for which region and at which endpoint, and what\n\
         they tell the person. All hosts lead to one server on loopback (`stub`). Of longer texts the beginning is shown;\n\
         compared is the whole.\n\n\
         ## What differs, and why\n\n",
    );
    table += &reasons(cases, outcomes);
    table.push_str(
        "\n## All cases\n\n\
         | | case | Terraform | cofferdam | intended difference, why |\n|---|---|---|---|---|\n",
    );
    for (number, (case, both)) in cases.iter().zip(outcomes).enumerate() {
        let ours = if both.ours == both.terraform {
            "the same".to_owned()
        } else {
            both.ours.cell()
        };
        let why = match difference(case) {
            None => "",
            Some(Difference::Outcome(why) | Difference::Words(_, why)) => why,
        };
        let _ = writeln!(
            table,
            "| {} | {} | {} | {ours} | {why} |",
            number + 1,
            case.name,
            both.terraform.cell(),
        );
    }
    table
}

/// Each reason with its cases.
fn reasons(cases: &[Case], outcomes: &[Both]) -> String {
    let mut numbers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let (mut same, mut words) = (0, 0);
    for (number, (case, both)) in cases.iter().zip(outcomes).enumerate() {
        let why = match difference(case) {
            Some(Difference::Words(_, why)) => {
                words += 1;
                why
            }
            Some(Difference::Outcome(why)) => why,
            None => {
                same += usize::from(both.ours == both.terraform);
                continue;
            }
        };
        let number = (number + 1).to_string();
        numbers.entry(why).or_default().push(number);
    }
    let all = cases.len();
    let mut text = format!(
        "Of {all} cases {same} end the same, word for word. {words} are refused by both for the same cause, in other \
         words. {} differ on purpose.\n\n| why | cases |\n|---|---|\n",
        all - same - words
    );
    for (why, numbers) in numbers {
        let _ = writeln!(text, "| {why} | {} |", numbers.join(", "));
    }
    text
}

/// The document says what was seen.
fn is_written_down(table: &str) {
    let page = workspace_root().join("docs/terraform-differences.md");
    if std::env::var_os("COFFERDAM_BLESS").is_some() {
        std::fs::write(&page, table).expect("the page is written");
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        written == table,
        "docs/terraform-differences.md is stale; COFFERDAM_BLESS=1 rewrites it"
    );
}
