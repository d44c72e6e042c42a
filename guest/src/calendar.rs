//! The calendar, as far as signatures, headers and lock records need it.
//!
//! A few formats of dates and no arithmetic: a library for dates would be a tenth of the component.

use std::time::Duration;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A time since 1970 as signatures have it: `20130524T000000Z`.
pub(crate) fn basic_format(time: Duration) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Reads the date of an HTTP header, `Fri, 24 May 2013 00:00:00 GMT`, as time since 1970. None: it is no such date.
pub(crate) fn parse_http_date(date: &str) -> Option<Duration> {
    let (_, rest) = date.trim().split_once(", ")?;
    let mut parts = rest.split(' ');
    let day = number(parts.next()?, 2)?;
    let name = parts.next()?;
    let month = MONTHS.iter().zip(1..).find(|(known, _)| **known == name)?.1;
    let year = number(parts.next()?, 4)?;
    let mut time = parts.next()?.split(':');
    let mut field = || number(time.next()?, 2);
    let (hour, minute, second) = (field()?, field()?, field()?);
    let is_gmt = parts.next() == Some("GMT") && parts.next().is_none();
    let is_date = (1..=days_of(year, month)).contains(&day);
    let is_time = hour < 24 && minute < 60 && second <= 60 && time.next().is_none();
    if !(is_gmt && is_date && is_time) {
        return None;
    }
    let seconds = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Reads a date of RFC 3339: seconds since 1970, and the digits of the fraction: at most nine, without zeros at their
/// end. None: it is no such date.
pub(crate) fn parse_rfc3339(date: &str) -> Option<(i64, &str)> {
    let (date, rest) = date.trim().split_once(['T', 't'])?;
    let (time, fraction, offset) = split_time(rest)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_date = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let minutes = (days_since_epoch(year, month, day) * 24 + hour) * 60 + minute - offset;
    Some((minutes * 60 + second, fraction))
}

/// A time since 1970 in RFC 3339, UTC, whole seconds: `2013-05-24T00:00:00Z`.
pub(crate) fn format_rfc3339(time: Duration) -> String {
    let basic = basic_format(time);
    let part = |from: usize, to: usize| basic.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    )
}

/// A number of exactly so many digits.
fn number(text: &str, width: usize) -> Option<i64> {
    let is_number = text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// How many days a month has.
fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, in the Gregorian calendar. Years begin in March here, so that a leap day ends one.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Inverse of [`days_since_epoch`].
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// Splits `15:04:05.678Z` into time, fraction and the offset in minutes.
fn split_time(text: &str) -> Option<(&str, &str, i64)> {
    let zone = text.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = text.split_at(zone);
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign, ..] => {
            let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 60 + minutes;
            if *sign == b'-' { -offset } else { offset }
        }
        [] => return None,
    };
    let (time, fraction) = match clock.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (clock, ""),
    };
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.get(..9).unwrap_or(fraction);
    Some((time, fraction.trim_end_matches('0'), offset))
}

/// Numbers of exactly these widths, with a separator between them.
fn numbers<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut values = [0; N];
    for (value, width) in values.iter_mut().zip(widths) {
        *value = number(parts.next()?, width)?;
    }
    parts.next().is_none().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_the_calendar_comes_back() {
        let mut previous = days_since_epoch(-1, 12, 31);
        for year in 0..=2400 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    let days = days_since_epoch(year, month, day);
                    assert_eq!(days, previous + 1);
                    assert_eq!(civil(days), (year, month, day));
                    previous = days;
                }
            }
        }
        assert_eq!(days_since_epoch(1970, 1, 1), 0);
    }

    #[test]
    fn dates_of_http_are_read_and_dates_of_signatures_written() {
        let time = parse_http_date("Fri, 24 May 2013 01:02:03 GMT").unwrap();
        assert_eq!(time, Duration::from_secs(1_369_357_323));
        assert_eq!(basic_format(time), "20130524T010203Z");
        for garbage in [
            "",
            "Fri, 24 May 2013 01:02:03",
            "Fri, 24 May 2013 01:02:03 CET",
            "Fri, 24 May 2013 01:02:03 GMT x",
            "Fri, 31 Apr 2013 01:02:03 GMT",
            "Fri, 24 may 2013 01:02:03 GMT",
            "Fri, 24 May 2013 24:02:03 GMT",
            "Fri, 24 May 2013 01:02:03:04 GMT",
            "Fri, 24 May 1969 01:02:03 GMT",
            "Friday, 24-May-13 01:02:03 GMT",
        ] {
            assert_eq!(parse_http_date(garbage), None, "{garbage}");
        }
    }
    #[test]
    fn dates_of_rfc_3339_are_read_in_any_zone() {
        for (date, read) in [
            ("2013-05-24T01:02:03Z", Some((1_369_357_323, ""))),
            ("2013-05-24t03:02:03.120+02:00", Some((1_369_357_323, "12"))),
            ("1969-12-31T23:59:59Z", Some((-1, ""))),
            ("2013-05-24 01:02:03Z", None),
            ("2013-05-24T01:02:03", None),
            ("2013-02-29T01:02:03Z", None),
        ] {
            assert_eq!(parse_rfc3339(date), read, "{date}");
        }
        let time = Duration::from_secs(1_369_357_323);
        assert_eq!(format_rfc3339(time), "2013-05-24T01:02:03Z");
    }
}
