//! What a request asks for: method and URL, made into a type once.
//!
//! Without strictness here a mistyped address would look like an empty state, and two spellings of one
//! name would be two workspaces.

use http::{Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;

use super::answer::Answer;

/// Where every address starts.
const PREFIX: &str = "/state/";

/// What a request asks for, before its body is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) workspace: String,
    pub(super) action: Action,
    /// The `ID` of the query: the lock under which the client says it works.
    pub(super) lock: Option<String>,
}

/// What to do with the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Delete,
    Lock,
    Read,
    Unlock,
    Write,
}

impl Target {
    /// Takes a method and a URL apart.
    pub(super) fn parse(method: &Method, uri: &Uri) -> Result<Self, Answer> {
        let rest = uri.path().strip_prefix(PREFIX).ok_or_else(|| {
            bad("there is nothing here: the address of a state is /state/<workspace>, such as /state/default")
        })?;
        let (name, is_lock) = match rest.split_once('/') {
            None => (rest, false),
            Some((name, "lock")) => (name, true),
            Some(_) => {
                return Err(bad(
                    "the address is /state/<workspace> or /state/<workspace>/lock; a `/` in a workspace's name is not allowed",
                ));
            }
        };
        Ok(Self {
            workspace: workspace(name)?,
            action: action(method, is_lock)?,
            lock: lock(uri)?,
        })
    }
}

/// The workspace's name, percent-decoded once.
fn workspace(segment: &str) -> Result<String, Answer> {
    let complete = segment.split('%').skip(1).all(|rest| {
        rest.as_bytes()
            .get(..2)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let name = percent_decode_str(segment).decode_utf8();
    match name {
        Ok(name)
            if complete
                && !matches!(&*name, "" | "." | "..")
                && !name.contains(|c: char| c == '/' || c.is_control()) =>
        {
            Ok(name.into_owned())
        }
        _ => Err(bad(
            "this is not a workspace's name: it must not be empty, `.` or `..`, nor hold `/`, control characters or broken percent-encoding",
        )),
    }
}

fn action(method: &Method, is_lock: bool) -> Result<Action, Answer> {
    match (method.as_str(), is_lock) {
        ("GET" | "HEAD", false) => Ok(Action::Read),
        ("POST" | "PUT", false) => Ok(Action::Write),
        ("DELETE", false) => Ok(Action::Delete),
        ("LOCK", _) | ("POST", true) => Ok(Action::Lock),
        ("UNLOCK", _) | ("DELETE", true) => Ok(Action::Unlock),
        _ => Err(Answer::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "a state takes GET, POST, PUT, DELETE, LOCK and UNLOCK; its /lock takes POST or LOCK, DELETE or UNLOCK",
        )),
    }
}

fn lock(uri: &Uri) -> Result<Option<String>, Answer> {
    let mut ids = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
        .filter(|(name, value)| name == "ID" && !value.is_empty())
        .map(|(_, value)| value.into_owned());
    let id = ids.next();
    if ids.next().is_some() {
        return Err(bad("the query names more than one lock ID"));
    }
    Ok(id)
}

fn bad(reason: &str) -> Answer {
    Answer::text(StatusCode::BAD_REQUEST, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, uri: &str) -> Result<Target, u16> {
        Target::parse(&method.parse().unwrap(), &uri.parse().unwrap())
            .map_err(|answer| answer.status().as_u16())
    }

    fn name(uri: &str) -> Result<String, u16> {
        parse("GET", uri).map(|target| target.workspace)
    }

    #[test]
    fn names_are_percent_decoded_exactly_once() {
        assert_eq!(name("/state/default"), Ok("default".to_owned()));
        assert_eq!(name("/state/a%20b"), Ok("a b".to_owned()));
        assert_eq!(name("/state/%C3%A4"), Ok("ä".to_owned()));
        assert_eq!(name("/state/a+b"), Ok("a+b".to_owned()));
        assert_eq!(name("/state/%252e%252e"), Ok("%2e%2e".to_owned()));
        assert_eq!(name("/state/lock"), Ok("lock".to_owned()));
        assert_eq!(name("/state/..."), Ok("...".to_owned()));
    }

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for uri in [
            "/state/",
            "/state/.",
            "/state/..",
            "/state/%2e%2E",
            "/state/a%2Fb",
            "/state/a/b",
            "/state//lock",
            "/state/a%00",
            "/state/a%0A",
            "/state/%7F",
            "/state/%C2%85",
            "/state/%ff",
            "/state/%",
            "/state/%zz",
            "/state/%4",
            "/state/default/",
            "/state/default/lock/",
            "/state/../default",
        ] {
            assert_eq!(name(uri), Err(400), "{uri}");
        }
    }

    #[test]
    fn an_address_that_is_no_state_is_never_an_absent_state() {
        for uri in [
            "/",
            "/state",
            "/states/default",
            "/default",
            "/State/default",
        ] {
            assert_eq!(name(uri), Err(400), "{uri}");
        }
    }

    #[test]
    fn methods_mean_what_terraform_and_gitlab_mean_by_them() {
        use Action::*;
        let action = |method, uri| parse(method, uri).map(|target| target.action);
        for (method, expected) in [
            ("GET", Read),
            ("HEAD", Read),
            ("POST", Write),
            ("PUT", Write),
            ("DELETE", Delete),
            ("LOCK", Lock),
            ("UNLOCK", Unlock),
        ] {
            assert_eq!(action(method, "/state/w"), Ok(expected), "{method}");
        }
        for (method, expected) in [
            ("POST", Lock),
            ("LOCK", Lock),
            ("DELETE", Unlock),
            ("UNLOCK", Unlock),
        ] {
            assert_eq!(action(method, "/state/w/lock"), Ok(expected), "{method}");
        }
        for (method, uri) in [
            ("PATCH", "/state/w"),
            ("OPTIONS", "/state/w"),
            ("GET", "/state/w/lock"),
        ] {
            assert_eq!(action(method, uri), Err(405), "{method} {uri}");
        }
    }

    #[test]
    fn the_lock_id_is_found_in_any_query() {
        let lock = |uri| parse("POST", uri).map(|target| target.lock);
        assert_eq!(lock("/state/w"), Ok(None));
        assert_eq!(lock("/state/w?a=b"), Ok(None));
        assert_eq!(lock("/state/w?ID="), Ok(None));
        assert_eq!(lock("/state/w?ID=x-1&a=b"), Ok(Some("x-1".to_owned())));
        assert_eq!(lock("/state/w?a=b&ID=x%201"), Ok(Some("x 1".to_owned())));
        assert_eq!(lock("/state/w?ID=x&ID=y"), Err(400));
    }
}
