//! Durations as Go writes them (`30s`, `1m30s`, `1.5h`), because that is how Terraform's users give
//! `-lock-timeout`.

use std::time::Duration;

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a duration: write a number and a unit (ns, us, ms, s, m, h), such as `30s` or `1m30s`"
)]
pub struct GoDurationError(String);

/// Reads a duration: `0`, or one or more decimal numbers, each with a unit (`ns`, `us`, `µs`, `ms`, `s`,
/// `m`, `h`). Parts of a nanosecond are cut off.
///
/// # Errors
/// When the text is anything else, negative, or longer than Go's longest duration (about 292 years).
pub fn parse_go_duration(text: &str) -> Result<Duration, GoDurationError> {
    nanoseconds(text)
        .and_then(|nanoseconds| u64::try_from(nanoseconds).ok())
        .filter(|nanoseconds| i64::try_from(*nanoseconds).is_ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| GoDurationError(text.to_owned()))
}

fn nanoseconds(text: &str) -> Option<u128> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_u128;
    let mut any = false;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let unit = unit(&after[..end])?;
        rest = &after[end..];
        let whole: u128 = match whole {
            "" => 0,
            whole => whole.parse().ok()?,
        };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        // More digits than these are below a nanosecond, whatever the unit.
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
            total = total.checked_add(fraction.parse::<u128>().ok()? * unit / scale)?;
        }
        any = true;
    }
    any.then_some(total)
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

fn unit(name: &str) -> Option<u128> {
    Some(match name {
        "ns" => 1,
        // The micro sign and the Greek letter: Go takes both.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("30s", Duration::from_secs(30)),
            ("+5s", Duration::from_secs(5)),
            ("1m30s", Duration::from_secs(90)),
            ("1h2m3s4ms5us6ns", Duration::new(3723, 4_005_006)),
            ("1.5h", Duration::from_secs(5400)),
            (".5s", Duration::from_millis(500)),
            ("5.s", Duration::from_secs(5)),
            ("10µs", Duration::from_micros(10)),
            ("10μs", Duration::from_micros(10)),
            ("0.0000000019s", Duration::from_nanos(1)),
            (
                "9223372036854775807ns",
                Duration::from_nanos(9_223_372_036_854_775_807),
            ),
        ] {
            assert_eq!(parse_go_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for text in [
            "",
            "+",
            "30",
            "s",
            ".s",
            "-5s",
            "1 s",
            "1d",
            "1s2",
            "1S",
            "9223372036854775808ns",
            "99999999999999999999999999999999999999999h",
            "1e3s",
            "١s",
        ] {
            let error = parse_go_duration(text).unwrap_err();
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }
}
