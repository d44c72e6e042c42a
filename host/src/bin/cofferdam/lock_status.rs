//! `lock status`: who holds the lock of the workspace, and for how long.
//!
//! `--json`: `{"format_version", "workspace", "locked", "holders": [{"place", "info": {"ID", …} or null,
//! "age_seconds" or null, "token"}], "places": [{"place", "held"}]}`; `places` are those that the backend block names.

use cofferdam::{Holder, StateStore};
use jiff::Timestamp;
use serde_json::json;

use crate::arguments::Format;
use crate::failure::{Failure, LOCKED};
use crate::output::{data, json, lock_info, printable};
use crate::session::Session;

/// Answers the exit code: 0 when nobody holds it.
pub(crate) async fn run(session: &Session, options: &Format) -> Result<u8, Failure> {
    let workspace = session.workspace()?;
    let store = session.open().await?;
    let holders = store
        .holders(&workspace)
        .await
        .map_err(|error| Failure::store("Failed to read the state lock", &error))?;
    let places = session.site().await?.places();
    let now = Timestamp::now();
    if options.json {
        let found: Vec<_> = holders
            .iter()
            .map(|holder| {
                json!({
                    "place": holder.place,
                    "info": holder.info,
                    "age_seconds": age(holder, now),
                    "token": holder.token,
                })
            })
            .collect();
        let places: Vec<_> = places
            .iter()
            .map(|place| json!({ "place": place, "held": is_held(place, &holders) }))
            .collect();
        json(json!({
            "workspace": workspace,
            "locked": !found.is_empty(),
            "holders": found,
            "places": places,
        }))?;
    } else {
        let mut text = format!(
            "Workspace \"{}\" is {}.\n",
            printable(&workspace),
            if holders.is_empty() {
                "not locked"
            } else {
                "locked"
            }
        );
        for holder in &holders {
            text += &described(holder, now);
        }
        text += &half_held(&places, &holders);
        data(text.as_bytes())?;
    }
    Ok(if holders.is_empty() { 0 } else { LOCKED })
}

fn described(holder: &Holder, now: Timestamp) -> String {
    let place = printable(&holder.place);
    let Some(info) = &holder.info else {
        return format!(
            "\nHeld in {place}, by a record that cannot be read. Once it is certain that nobody works under it:\n  cofferdam force-unlock --token '{}'\n",
            printable(&holder.token),
        );
    };
    let age = age(holder, now).map_or_else(|| "an unknown time".to_owned(), duration);
    format!("\nHeld in {place} for {age}.\n{}", lock_info(info))
}

/// A lock that is in one of its places only: it was left behind when it was taken or released.
fn half_held(places: &[&str], holders: &[Holder]) -> String {
    let free: Vec<&str> = places
        .iter()
        .filter(|place| !is_held(place, holders))
        .copied()
        .collect();
    if holders.is_empty() || free.is_empty() {
        return String::new();
    }
    format!(
        "\nNot held in {}: somebody is taking or releasing the lock at this moment, or was interrupted then, or works\nwith a backend block that names fewer places. Others are kept out all the same.\n",
        free.join(" and ")
    )
}

fn is_held(place: &str, holders: &[Holder]) -> bool {
    holders.iter().any(|holder| holder.place == place)
}

/// Seconds since the lock was taken, as far as its record and the two clocks can tell.
fn age(holder: &Holder, now: Timestamp) -> Option<i64> {
    let created: Timestamp = holder.info.as_ref()?.created.parse().ok()?;
    Some(now.as_second().saturating_sub(created.as_second()).max(0))
}

/// The two largest units.
fn duration(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use cofferdam::LockInfo;

    use super::*;

    fn held(created: &str) -> Holder {
        Holder {
            place: "s3".into(),
            info: Some(LockInfo {
                created: created.into(),
                ..LockInfo::new("test")
            }),
            token: "t".into(),
        }
    }

    #[test]
    fn an_age_is_what_the_record_tells_and_never_negative() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        assert_eq!(age(&held("2026-11-23T11:59:00.5Z"), now), Some(60));
        assert_eq!(age(&held("2026-11-23T13:00:00Z"), now), Some(0));
        assert_eq!(age(&held("yesterday"), now), None);
        assert_eq!(
            age(
                &Holder {
                    info: None,
                    ..held("")
                },
                now
            ),
            None
        );
    }

    #[test]
    fn a_lock_in_one_of_two_places_is_pointed_out() {
        let both = ["s3", "dynamodb"];
        let text = half_held(&both, &[held("")]);
        assert!(text.contains("Not held in dynamodb"), "{text}");
        assert_eq!(half_held(&["s3"], &[held("")]), "");
        assert_eq!(half_held(&both, &[]), "");
    }

    #[test]
    fn ages_are_told_in_their_two_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3_660, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_comes_with_what_breaks_it() {
        let text = described(
            &Holder {
                info: None,
                ..held("")
            },
            Timestamp::now(),
        );
        assert!(text.contains("force-unlock --token 't'"), "{text}");
    }
}
