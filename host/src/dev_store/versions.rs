//! Buckets, and the versions of what is in them.
//!
//! Without this module a versioned bucket, which is what states should be in, would be tried only on AWS: there a
//! deletion leaves a marker, and a lock that was released is a version like any other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::listing::Query;
use super::log::Generation;
use super::object::Object;
use super::uploads::Upload;

/// The identifier of a version that was made when its bucket had no versions to tell apart.
pub(super) const NULL: &str = "null";

/// What a bucket is told to be, also on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) versioning: Versioning,
    /// Every upload must come with a checksum. Nothing is retained.
    pub(super) object_lock: bool,
    /// Access lists are refused.
    #[serde(default)]
    pub(super) acls_disabled: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Versioning {
    /// Every change makes a version.
    Enabled,
    /// There never was one.
    #[default]
    Off,
    /// Versions are kept, and changes make and replace the one called `null`.
    Suspended,
}

pub(super) struct Bucket {
    pub(super) created: SystemTime,
    pub(super) settings: Settings,
    /// No chain is empty.
    pub(super) keys: BTreeMap<String, Chain>,
    pub(super) uploads: BTreeMap<String, Upload>,
    pub(super) history: Vec<(String, Generation)>,
    /// The key that was changed last, and what it held before.
    pub(super) newest_change: Option<(String, Option<Arc<Object>>)>,
    /// The place of the newest version among all of the bucket.
    newest: u64,
}

impl Bucket {
    pub(super) fn new(created: SystemTime, settings: Settings, versions: Vec<Version>) -> Self {
        let mut keys: BTreeMap<String, Chain> = BTreeMap::new();
        let mut versions = versions;
        versions.sort_by_key(|version| version.order);
        let newest = versions.last().map_or(0, |version| version.order);
        for version in versions {
            let key = version.object.metadata.key.clone();
            keys.entry(key).or_default().0.push(version);
        }
        Self {
            created,
            settings,
            keys,
            uploads: BTreeMap::new(),
            history: Vec::new(),
            newest_change: None,
            newest,
        }
    }

    /// The object under a key, unless its newest version is a delete marker.
    pub(super) fn current(&self, key: &str) -> Option<&Arc<Object>> {
        self.keys.get(key)?.current()
    }

    /// The newest version of a key, which may be a delete marker.
    pub(super) fn latest(&self, key: &str) -> Option<&Version> {
        self.keys.get(key)?.0.last()
    }

    pub(super) fn find(&self, key: &str, version: &str) -> Option<&Version> {
        let chain = self.keys.get(key)?;
        chain.0.iter().find(|of_key| of_key.id == version)
    }

    /// Adds the newest version of a key, in place of the one with its identifier.
    pub(super) fn push(&mut self, key: &str, version: Version) {
        let chain = self.keys.entry(key.to_owned()).or_default();
        chain.0.retain(|of_key| of_key.id != version.id);
        chain.0.push(version);
    }

    /// Puts a version in the place of the one with its identifier.
    pub(super) fn replace(&mut self, version: Version) {
        let chain = self.keys.get_mut(version.key());
        let mut versions = chain.into_iter().flat_map(|chain| &mut chain.0);
        if let Some(place) = versions.find(|of_key| of_key.id == version.id) {
            *place = version;
        }
    }

    pub(super) fn remove(&mut self, key: &str, version: &str) {
        if let Some(chain) = self.keys.get_mut(key) {
            chain.0.retain(|of_key| of_key.id != version);
            if chain.0.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    /// Makes an object the newest version, as far as the settings ask for versions.
    pub(super) fn version(&mut self, object: Object) -> Version {
        let id = match self.settings.versioning {
            Versioning::Enabled => uuid::Uuid::new_v4().simple().to_string(),
            Versioning::Off | Versioning::Suspended => NULL.to_owned(),
        };
        // What there is one of at most has its place on disk for good: a new one replaces it in one step.
        if self.settings.versioning != Versioning::Off {
            self.newest += 1;
        }
        let order = match self.settings.versioning {
            Versioning::Off => 0,
            _ => self.newest,
        };
        Version {
            id,
            order,
            object: Arc::new(object),
        }
    }

    /// What answers say of a version: nothing, if the bucket never had any.
    pub(super) fn shown(&self, version: &Version) -> Option<String> {
        (self.settings.versioning != Versioning::Off).then(|| version.id.clone())
    }

    pub(super) fn before_the_newest_change(&self) -> BTreeMap<String, Arc<Object>> {
        let current = self.keys.iter();
        let mut objects: BTreeMap<String, Arc<Object>> = current
            .filter_map(|(key, chain)| Some((key.clone(), Arc::clone(chain.current()?))))
            .collect();
        match &self.newest_change {
            Some((key, Some(before))) => {
                objects.insert(key.clone(), Arc::clone(before));
            }
            Some((key, None)) => {
                objects.remove(key);
            }
            None => {}
        }
        objects
    }

    /// One page of all versions: by key, and of each key the newest first.
    ///
    /// `after` is the key and the version that the page begins behind. `None`: there is no such version.
    pub(super) fn versions(
        &self,
        query: &Query,
        after: Option<(&str, Option<&str>)>,
    ) -> Option<VersionPage> {
        let mut page = VersionPage::default();
        if query.limit() == 0 {
            return Some(page);
        }
        let from = after.map_or("", |(key, _)| key).max(&query.prefix);
        for (key, chain) in self.keys.range(from.to_owned()..) {
            if !key.starts_with(&query.prefix) {
                break;
            }
            let mut versions = chain.0.iter().rev().enumerate().peekable();
            match after {
                Some((marker, None)) if marker == key => continue,
                Some((marker, Some(id))) if marker == key => {
                    versions.find(|(_, version)| version.id == id)?;
                }
                _ => {}
            }
            for (number, version) in versions {
                if page.entries.len() == query.limit() {
                    page.is_truncated = true;
                    return Some(page);
                }
                page.entries.push((version.clone(), number == 0));
            }
        }
        Some(page)
    }
}

/// Versions, each with whether it is the newest of its key.
#[derive(Default)]
pub(super) struct VersionPage {
    pub(super) entries: Vec<(Version, bool)>,
    pub(super) is_truncated: bool,
}

/// The versions of one key, the oldest first.
#[derive(Default)]
pub(super) struct Chain(Vec<Version>);

/// One version, which may be a delete marker.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) id: String,
    /// Its place among all versions of the bucket.
    pub(super) order: u64,
    pub(super) object: Arc<Object>,
}

impl Version {
    pub(super) fn key(&self) -> &str {
        &self.object.metadata.key
    }

    pub(super) fn is_delete_marker(&self) -> bool {
        self.object.metadata.delete_marker
    }
}

impl Chain {
    pub(super) fn current(&self) -> Option<&Arc<Object>> {
        let latest = self.0.last()?;
        (!latest.is_delete_marker()).then_some(&latest.object)
    }
}
