//! What the person sees: diagnostics in Terraform's frame on standard error, data on standard output.
//!
//! Lock records, workspace names and the store's messages come from whoever can write to the bucket. Printed
//! as they are, they could drive the terminal; here control characters are made visible first.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

use cofferdam::{Diagnostic, LockInfo, Severity};
use jiff::Timestamp;
use serde_json::Value;

use crate::failure::Failure;

/// Columns of a diagnostic's text: Terraform's, where it does not know the terminal.
const WIDTH: usize = 76;

/// The version of the shape of everything that `--json` prints. New fields do not change it.
pub(crate) const FORMAT_VERSION: &str = "1.0";

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// On standard error.
    color: bool,
    /// On standard output.
    bold: bool,
}

impl Output {
    /// Colours on a terminal, unless they are not wanted (`--no-color`, `NO_COLOR`).
    pub(crate) fn new(no_color: bool) -> Self {
        let unwanted =
            no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            color: !unwanted && std::io::stderr().is_terminal(),
            bold: !unwanted && std::io::stdout().is_terminal(),
        }
    }

    /// A title for standard output.
    pub(crate) fn title(self, text: &str) -> String {
        match self.bold {
            true => format!("\x1b[1m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Prints a diagnostic in its frame.
    pub(crate) fn diagnostic(self, diagnostic: &Diagnostic) {
        let (summary, detail) = (&diagnostic.summary, &diagnostic.detail);
        tracing::trace!(?summary, ?detail, "printed");
        eprint!("{}", self.framed(diagnostic));
    }

    /// Prints a line about the progress.
    #[expect(
        clippy::unused_self,
        reason = "messages go through the same door as diagnostics"
    )]
    pub(crate) fn message(self, text: &str) {
        let text = printable(text);
        tracing::trace!(%text, "printed");
        eprintln!("{text}");
    }

    fn framed(self, diagnostic: &Diagnostic) -> String {
        let (label, color) = match diagnostic.severity {
            Severity::Warning => ("Warning", "\x1b[33m"),
            _ => ("Error", "\x1b[31m"),
        };
        let (color, bold, reset) = if self.color {
            (color, "\x1b[1m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let bar = format!("{color}│{reset}");
        let summary = printable(&diagnostic.summary).replace('\n', " ");
        let mut text =
            format!("{color}╷{reset}\n{bar} {bold}{color}{label}: {reset}{bold}{summary}{reset}\n");
        let mut lines = Vec::new();
        if let Some(attribute) = &diagnostic.attribute {
            lines.push(format!("  with the argument {}", printable(attribute)));
        }
        if !diagnostic.detail.is_empty() {
            if !lines.is_empty() {
                lines.push(String::new());
            }
            lines.extend(
                printable(diagnostic.detail.trim_end())
                    .lines()
                    .flat_map(wrapped),
            );
        }
        if !lines.is_empty() {
            lines.insert(0, String::new());
        }
        for line in lines {
            // A String takes all that is written to it.
            let _ = match line.as_str() {
                "" => writeln!(text, "{bar}"),
                line => writeln!(text, "{bar} {line}"),
            };
        }
        text + &format!("{color}╵{reset}\n")
    }
}

/// A line in lines of [`WIDTH`] columns. An indented one is laid out already.
pub(crate) fn wrapped(line: &str) -> Vec<String> {
    if line.starts_with(char::is_whitespace) || line.chars().count() <= WIDTH {
        return vec![line.to_owned()];
    }
    let mut lines = vec![String::new()];
    let mut column = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            lines.push(String::new());
            column = 0;
        }
        if let Some(last) = lines.last_mut() {
            if column > 0 {
                last.push(' ');
                column += 1;
            }
            last.push_str(word);
            column += length;
        }
    }
    lines
}

/// The text with control characters other than line feeds, and marks that turn the direction of writing, made visible.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        match c {
            '\n' => shown.push(c),
            '\t' => shown.push_str("    "),
            c if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
        shown
    })
}

/// Terraform's block about a lock.
pub(crate) fn lock_info(info: &LockInfo) -> String {
    let created = match info.created.parse::<Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
        Err(_) => info.created.clone(),
    };
    let one_line = |text: &str| printable(text).replace('\n', "\\n");
    format!(
        "Lock Info:\n  ID:        {}\n  Path:      {}\n  Operation: {}\n  Who:       {}\n  Version:   {}\n  Created:   {}\n  Info:      {}\n",
        one_line(&info.id),
        one_line(&info.path),
        one_line(&info.operation),
        one_line(&info.who),
        one_line(&info.version),
        one_line(&created),
        one_line(&info.info),
    )
}

/// Writes data to standard output. A reader that stopped reading is no error.
pub(crate) fn data(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::new(
            "Cannot write to standard output",
            format!("{error}."),
        )),
        _ => Ok(()),
    }
}

/// Writes JSON to standard output, on one line. `value` is an object; it gets the `format_version`.
pub(crate) fn json(mut value: Value) -> Result<(), Failure> {
    value["format_version"] = FORMAT_VERSION.into();
    data(format!("{value}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use cofferdam::Severity;

    use super::*;
    use crate::failure::diagnostic;

    const PLAIN: Output = Output {
        color: false,
        bold: false,
    };
    const COLORED: Output = Output {
        color: true,
        bold: true,
    };

    #[test]
    fn a_title_is_bold_where_that_can_be_seen() {
        assert_eq!(PLAIN.title("Store"), "Store");
        assert_eq!(COLORED.title("Store"), "\x1b[1mStore\x1b[0m");
    }

    #[test]
    fn a_diagnostic_stands_in_terraforms_frame() {
        let error = diagnostic(Severity::Error, "It failed", "One line.\n\nAnother.\n");
        assert_eq!(
            PLAIN.framed(&error),
            "╷\n│ Error: It failed\n│\n│ One line.\n│\n│ Another.\n╵\n"
        );
        assert_eq!(
            COLORED.framed(&diagnostic(Severity::Warning, "Careful", "")),
            "\x1b[33m╷\x1b[0m\n\x1b[33m│\x1b[0m \x1b[1m\x1b[33mWarning: \x1b[0m\x1b[1mCareful\x1b[0m\n\x1b[33m╵\x1b[0m\n"
        );
    }

    #[test]
    fn long_lines_are_wrapped_and_indented_ones_are_not() {
        let prose = "word ".repeat(40);
        let indented = format!("  {}", "x".repeat(100));
        let text = PLAIN.framed(&diagnostic(
            Severity::Error,
            "s",
            format!("{prose}\n{indented}"),
        ));
        assert!(text.contains(&indented));
        assert!(
            text.lines().filter(|line| line.contains("word")).count() == 3,
            "{text}"
        );
        assert!(
            text.lines()
                .filter(|line| line.contains("word"))
                .all(|line| line.chars().count() <= 78)
        );
    }

    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        let text = PLAIN.framed(&diagnostic(
            Severity::Error,
            "\x1b[2Jgone\nnext",
            "\r\x07 \u{202e}txet",
        ));
        assert!(
            !text.contains(['\x1b', '\r', '\x07', '\u{202e}']),
            "{text:?}"
        );
        let info = LockInfo {
            who: "\x1b]0;x\x07\nID: other".into(),
            ..LockInfo::new("test")
        };
        let text = lock_info(&info);
        assert!(
            !text.contains(['\x1b', '\x07']) && text.lines().count() == 8,
            "{text}"
        );
    }

    #[test]
    fn a_lock_is_shown_as_terraform_shows_it() {
        let info = LockInfo {
            id: "i".into(),
            operation: "o".into(),
            info: String::new(),
            who: "w@h".into(),
            version: "1.11.4".into(),
            created: "2026-11-23T01:24:55.608547539Z".into(),
            path: "b/k".into(),
        };
        assert_eq!(
            lock_info(&info),
            "Lock Info:\n  ID:        i\n  Path:      b/k\n  Operation: o\n  Who:       w@h\n  Version:   1.11.4\n  Created:   2026-11-23 01:24:55.608547539 +0000 UTC\n  Info:      \n"
        );
    }
}
