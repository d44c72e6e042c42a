//! Asking the person at the terminal before something that cannot be taken back.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::failure::Failure;

/// Asks; only `yes` counts. `flag` is what spares the question.
pub(crate) fn confirm(question: &str, command: &str, flag: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            "Nobody to ask",
            format!(
                "Standard input is not a terminal. To let {command} go on without being asked, give {flag}."
            ),
        ));
    }
    eprint!("{question} Only 'yes' will be accepted to confirm.\n\n  Enter a value: ");
    // What cannot be shown is not answered with `yes`.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_err() || answer.trim() != "yes" {
        return Err(Failure::new(format!("{command} cancelled."), ""));
    }
    Ok(())
}
