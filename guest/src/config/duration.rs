//! Durations as Go writes them, `1h30m`.
//!
//! Without Go's own rules, a `duration` that Terraform takes would be refused here, or the other way round. All in whole
//! nanoseconds: floating point would cost more room than the rest of it.

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// Reads a duration; the unit of the answer is a nanosecond.
///
/// # Errors
/// Go's words for what is wrong.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|it: char| it == '.' || it.is_ascii_digit());
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let scale = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let whole = match whole {
            "" => 0,
            whole => whole.parse::<i64>().map_err(|_| invalid())?,
        };
        let part = whole.checked_mul(scale).ok_or_else(invalid)?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        let mut place = scale;
        for digit in fraction.bytes() {
            place /= 10;
            let part = place * i64::from(digit - b'0');
            total = total.checked_add(part).ok_or_else(invalid)?;
        }
        rest = after;
    }
    Ok(sign * total)
}

/// A duration as Go shows it: `13h0m0s`, `1.5s`, `20ms`.
pub(super) fn shown(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let rest = nanoseconds.abs();
    if rest == 0 {
        return "0s".to_owned();
    }
    if rest < SECOND {
        let (unit, name) = match rest {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", with_fraction(rest, unit));
    }
    let seconds = with_fraction(rest % MINUTE, SECOND);
    match (rest / HOUR, rest % HOUR / MINUTE) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|it: char| !it.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// A number of units, with as many decimal places as it takes.
fn with_fraction(number: i64, unit: i64) -> String {
    let (mut fraction, mut rest, mut place) = (String::new(), number % unit, unit);
    while rest > 0 {
        place /= 10;
        fraction.push_str(&(rest / place).to_string());
        rest %= place;
    }
    let whole = number / unit;
    match fraction.as_str() {
        "" => whole.to_string(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_as_go_does() {
        for (text, expected) in [
            ("15m", "15m0s"),
            ("1h30m", "1h30m0s"),
            ("13h", "13h0m0s"),
            ("1.5h", "1h30m0s"),
            (".5m", "30s"),
            ("90s", "1m30s"),
            ("1h0.25s", "1h0m0.25s"),
            ("-1h", "-1h0m0s"),
            ("+20ms", "20ms"),
            ("1500us", "1.5ms"),
            ("7ns", "7ns"),
            ("1.000000001s", "1.000000001s"),
            ("0", "0s"),
            ("0h", "0s"),
        ] {
            assert_eq!(parse(text).map(shown).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_told_in_gos_words() {
        for (text, expected) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            ("soon", "time: invalid duration \"soon\""),
            ("3600", "time: missing unit in duration \"3600\""),
            ("1d", "time: unknown unit \"d\" in duration \"1d\""),
            ("1h 5m", "time: unknown unit \"h \" in duration \"1h 5m\""),
            (".s", "time: invalid duration \".s\""),
            ("99999999999h", "time: invalid duration \"99999999999h\""),
            (
                "99999999999999999999h",
                "time: invalid duration \"99999999999999999999h\"",
            ),
        ] {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }
}
