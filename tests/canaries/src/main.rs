//! `canaries FOLDER` searches what a test run left in a folder for every secret that the tests worked with. It ends with
//! 1 if it finds one, or if it does not find what was planted for it to find.

use std::path::Path;
use std::process::ExitCode;

use cofferdam_canaries::{FORMS, Patterns, Route};

/// Findings that are printed: a log line that leaks does so every time.
const SHOWN: usize = 100;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: canaries FOLDER");
        return ExitCode::from(64);
    };
    match search(Path::new(&folder)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cannot search {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well. What was found is printed.
fn search(folder: &Path) -> std::io::Result<bool> {
    let patterns = Patterns::of_run(folder)?;
    let searched = patterns.search(folder)?;
    println!(
        "{} secrets in {} forms each: searched {} files, {:.1} MB",
        patterns.secrets(),
        FORMS.len(),
        searched.files,
        searched.bytes as f64 / 1e6,
    );
    for finding in searched.findings.iter().take(SHOWN) {
        println!(
            "FOUND: {} ({}) in {} at byte {}",
            finding.name,
            finding.form,
            finding.file.display(),
            finding.offset,
        );
    }
    let missing = searched.missing_controls();
    for (route, form) in &missing {
        println!("NOT FOUND: what was planted on the route {route:?}, {form}");
    }
    println!(
        "{} secrets found, {} of {} controls found",
        searched.findings.len(),
        Route::ALL.len() * FORMS.len() - missing.len(),
        Route::ALL.len() * FORMS.len(),
    );
    Ok(searched.findings.is_empty() && missing.is_empty())
}
