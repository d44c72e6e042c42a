//! Tags and canned access lists: kept, given back, and refused where S3 refuses them.
//!
//! Without this module a backend that spells tags wrongly would find out only from whoever pays by them.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use s3s::dto::{Grant, Grantee, Owner, Permission, Tag, Type};
use s3s::{S3Result, s3_error};

/// The most tags of an object, and the most characters of a tag's key and value; S3's numbers.
const MOST: usize = 10;
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 256;

const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// Who owns everything here.
const OWNER: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub(super) type Tags = BTreeMap<String, String>;

/// The tags of `x-amz-tagging`, which is written like a form.
pub(super) fn from_header(headers: &HeaderMap) -> S3Result<Tags> {
    let text = headers.get("x-amz-tagging");
    let text = text.map_or(&b""[..], |text| text.as_bytes());
    let pairs = form_urlencoded::parse(text);
    collect(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())))
}

pub(super) fn from_set(set: Vec<Tag>) -> S3Result<Tags> {
    let pairs = set.into_iter();
    collect(pairs.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())))
}

pub(super) fn to_set(tags: &Tags) -> Vec<Tag> {
    let tags = tags.iter().map(|(key, value)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    });
    tags.collect()
}

fn collect(pairs: impl Iterator<Item = (String, String)>) -> S3Result<Tags> {
    let mut tags = Tags::new();
    for (key, value) in pairs {
        if key.is_empty() || key.chars().count() > LONGEST_KEY {
            return Err(s3_error!(
                InvalidTag,
                "The TagKey you have provided is invalid"
            ));
        }
        if value.chars().count() > LONGEST_VALUE {
            return Err(s3_error!(
                InvalidTag,
                "The TagValue you have provided is invalid"
            ));
        }
        if tags.insert(key, value).is_some() {
            return Err(s3_error!(
                InvalidTag,
                "Cannot provide multiple Tags with the same key"
            ));
        }
    }
    if tags.len() > MOST {
        return Err(s3_error!(
            InvalidTag,
            "Object tags cannot be greater than {MOST}"
        ));
    }
    Ok(tags)
}

/// The canned access list of `x-amz-acl`.
pub(super) fn acl(headers: &HeaderMap, acls_disabled: bool) -> S3Result<Option<String>> {
    let granted: BTreeSet<&str> = headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| name.starts_with("x-amz-grant-"))
        .collect();
    let acl = headers.get("x-amz-acl").map(|acl| acl.to_str());
    let acl = match acl {
        None => None,
        Some(Ok(acl)) if grants(acl).is_some() => Some(acl.to_owned()),
        Some(_) => return Err(s3_error!(InvalidArgument, "Invalid x-amz-acl header")),
    };
    let is_more = |acl: &String| acl != "bucket-owner-full-control";
    if acls_disabled && (!granted.is_empty() || acl.as_ref().is_some_and(is_more)) {
        return Err(s3_error!(
            AccessControlListNotSupported,
            "The bucket does not allow ACLs"
        ));
    }
    if let Some(name) = granted.first() {
        return Err(s3_error!(
            NotImplemented,
            "The embedded store knows only canned access lists, not {name}"
        ));
    }
    Ok(acl)
}

pub(super) fn owner() -> Owner {
    Owner {
        id: Some(OWNER.to_owned()),
        ..Owner::default()
    }
}

/// What a canned access list comes to; `None`: there is no such list.
pub(super) fn grants(acl: &str) -> Option<Vec<Grant>> {
    let group = |uri: &str, permission: &'static str| Grant {
        grantee: Some(Grantee {
            type_: Type::from_static(Type::GROUP),
            uri: Some(uri.to_owned()),
            display_name: None,
            email_address: None,
            id: None,
        }),
        permission: Some(Permission::from_static(permission)),
    };
    let more = match acl {
        "private" | "bucket-owner-read" | "bucket-owner-full-control" | "aws-exec-read" => vec![],
        "authenticated-read" => vec![group(AUTHENTICATED_USERS, Permission::READ)],
        "public-read" => vec![group(ALL_USERS, Permission::READ)],
        "public-read-write" => vec![
            group(ALL_USERS, Permission::READ),
            group(ALL_USERS, Permission::WRITE),
        ],
        _ => return None,
    };
    let own = Grant {
        grantee: Some(Grantee {
            type_: Type::from_static(Type::CANONICAL_USER),
            id: Some(OWNER.to_owned()),
            display_name: None,
            email_address: None,
            uri: None,
        }),
        permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
    };
    Some([vec![own], more].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Option<Vec<(String, String)>> {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-amz-tagging"),
            text.parse().unwrap(),
        )]);
        let tags = from_header(&headers).ok()?;
        Some(tags.into_iter().collect())
    }

    #[test]
    fn the_header_is_a_form_of_few_short_tags_each_once() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            tags("a=1+2&b%3D=%26").unwrap(),
            [pair("a", "1 2"), pair("b=", "&")]
        );
        assert_eq!(tags("").unwrap(), []);
        assert_eq!(tags("a=1&a=2"), None);
        assert_eq!(tags("=1"), None);
        assert_eq!(tags(&format!("{}=1", "k".repeat(129))), None);
        assert_eq!(tags(&format!("k={}", "v".repeat(257))), None);
        let many = (0..11).map(|number| format!("{number}=x"));
        assert_eq!(tags(&many.collect::<Vec<_>>().join("&")), None);
    }
}
