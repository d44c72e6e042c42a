//! One page of a bucket's listing.
//!
//! Without this module a workspace on the second page would not exist for the client that lists them.

use std::collections::BTreeMap;
use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The most entries that one page may hold, whatever is asked; S3's number.
const PAGE: usize = 1000;

/// Where a page starts: behind this entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum After {
    Key(String),
    /// Behind everything that starts so.
    Prefix(String),
}

impl After {
    /// A token that is opaque to the client.
    pub(super) fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(match self {
            Self::Key(key) => format!("k{key}"),
            Self::Prefix(prefix) => format!("p{prefix}"),
        })
    }

    pub(super) fn from_token(token: &str) -> Option<Self> {
        let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        match decoded.split_at_checked(1)? {
            ("k", key) => Some(Self::Key(key.to_owned())),
            ("p", prefix) => Some(Self::Prefix(prefix.to_owned())),
            _ => None,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Key(text) | Self::Prefix(text) => text,
        }
    }

    fn covers(&self, key: &str) -> bool {
        match self {
            Self::Key(after) => key <= after.as_str(),
            Self::Prefix(after) => key <= after.as_str() || key.starts_with(after.as_str()),
        }
    }
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pub(super) prefix: String,
    /// Keys that share everything up to its next occurrence become one entry. Empty: none.
    pub(super) delimiter: String,
    pub(super) after: Option<After>,
    pub(super) max_keys: Option<usize>,
}

impl Query {
    pub(super) fn limit(&self) -> usize {
        self.max_keys.unwrap_or(PAGE).min(PAGE)
    }
}

/// What was found, each list in the order of the keys' bytes.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) objects: Vec<(String, T)>,
    pub(super) prefixes: Vec<String>,
    /// Where the next page starts; `None`: this is the last.
    pub(super) next: Option<After>,
}

/// Lists what there is under the keys; `None` under one: nothing.
pub(super) fn page<V, T>(
    entries: &BTreeMap<String, V>,
    query: &Query,
    object: impl Fn(&V) -> Option<T>,
) -> Page<T> {
    let mut page = Page {
        objects: Vec::new(),
        prefixes: Vec::new(),
        next: None,
    };
    let limit = query.limit();
    if limit == 0 {
        return page;
    }
    let mut last = query.after.clone();
    let start = match &last {
        Some(after) if after.text() > query.prefix.as_str() => after.text(),
        _ => query.prefix.as_str(),
    };
    for (key, entry) in entries.range::<str, _>((Bound::Included(start), Bound::Unbounded)) {
        let Some(rest) = key.strip_prefix(query.prefix.as_str()) else {
            break;
        };
        if last.as_ref().is_some_and(|last| last.covers(key)) {
            continue;
        }
        let Some(object) = object(entry) else {
            continue;
        };
        if page.objects.len() + page.prefixes.len() == limit {
            page.next = last;
            break;
        }
        let shared = match query.delimiter.as_str() {
            "" => None,
            delimiter => rest
                .find(delimiter)
                .map(|at| &key[..query.prefix.len() + at + delimiter.len()]),
        };
        last = Some(match shared {
            Some(shared) => {
                page.prefixes.push(shared.to_owned());
                After::Prefix(shared.to_owned())
            }
            None => {
                page.objects.push((key.clone(), object));
                After::Key(key.clone())
            }
        });
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(keys: &[&str]) -> BTreeMap<String, ()> {
        keys.iter().map(|key| ((*key).to_owned(), ())).collect()
    }

    /// Lists everything, page by page, as a client does that takes tokens for opaque.
    fn all(objects: &BTreeMap<String, ()>, mut query: Query) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let page = page(objects, &query, |()| Some(()));
            found.extend(page.objects.into_iter().map(|(key, ())| key));
            found.extend(page.prefixes);
            match page.next {
                Some(next) => query.after = After::from_token(&next.token()),
                None => return found,
            }
        }
    }

    #[test]
    fn pages_of_any_size_hold_every_entry_once() {
        let objects = bucket(&["a", "env:/b/s", "env:/b/t", "env:/c/s", "env:/d", "f"]);
        for (prefix, delimiter) in [("", ""), ("", "/"), ("env:/", ""), ("env:/", "/")] {
            let query = |max_keys| Query {
                prefix: prefix.to_owned(),
                delimiter: delimiter.to_owned(),
                after: None,
                max_keys,
            };
            let mut whole = all(&objects, query(None));
            whole.sort();
            for size in 1..8 {
                let mut paged = all(&objects, query(Some(size)));
                paged.sort();
                assert_eq!(paged, whole, "{prefix:?} {delimiter:?} in pages of {size}");
            }
        }
    }

    #[test]
    fn a_delimiter_folds_what_shares_it_into_one_entry() {
        let objects = bucket(&["env:/a/s", "env:/a/s.tflock", "env:/b/s", "env:/x"]);
        let page = page(
            &objects,
            &Query {
                prefix: "env:/".to_owned(),
                delimiter: "/".to_owned(),
                ..Query::default()
            },
            |()| Some(()),
        );
        assert_eq!(page.prefixes, ["env:/a/", "env:/b/"]);
        assert_eq!(page.objects, [("env:/x".to_owned(), ())]);
        assert_eq!(page.next, None);
    }

    #[test]
    fn what_is_absent_is_neither_listed_nor_counted() {
        let keys: Vec<String> = (0..20).map(|number| format!("{number:02}/x")).collect();
        let entries: BTreeMap<String, bool> = keys
            .iter()
            .map(|key| (key.clone(), key.ends_with("9/x")))
            .collect();
        let query = Query {
            delimiter: "/".to_owned(),
            max_keys: Some(2),
            ..Query::default()
        };
        let page = page(&entries, &query, |present| present.then_some(()));
        assert_eq!(page.prefixes, ["09/", "19/"]);
        assert_eq!(page.next, None);
    }

    #[test]
    fn no_entries_are_asked_for_and_none_are_truncated() {
        let page = page(
            &bucket(&["a"]),
            &Query {
                max_keys: Some(0),
                ..Query::default()
            },
            |()| Some(()),
        );
        assert!(page.objects.is_empty() && page.next.is_none());
    }

    #[test]
    fn a_foreign_token_is_refused() {
        assert_eq!(After::from_token("!"), None);
        assert_eq!(After::from_token(""), None);
    }
}
