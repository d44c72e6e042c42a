//! The operations on objects, each one step in the order of effects.
//!
//! Without this module a write's condition and the object that it guards would be looked at one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use s3s::dto::ETagCondition;
use s3s::{S3Error, S3Result, s3_error};

use super::contents::{Contents, Failure, State};
use super::customer_key::{CustomerKey, Seal};
use super::disk::Staged;
use super::listing::{Page, Query, page};
use super::log::{Caller, Generation};
use super::object::{Conditions, Headers, Metadata, Object, Wanted, failed, no_such_key};
use super::tags::Tags;
use super::uploads::{Joined, Listed, Part, Place, Upload};
use super::versions::{Bucket, NULL, Settings, Version, VersionPage, Versioning};

/// What a read finds.
pub(super) struct Found {
    pub(super) object: Arc<Object>,
    pub(super) version: Option<String>,
}

/// What a deletion did.
#[derive(Default)]
pub(super) struct Removed {
    /// The version that was removed, or the delete marker that was made.
    pub(super) version: Option<String>,
    pub(super) delete_marker: bool,
}

impl State {
    fn upload(&mut self, place: &Place) -> S3Result<&mut Upload> {
        self.bucket(&place.bucket)?
            .uploads
            .get_mut(&place.id)
            .filter(|upload| upload.key == place.key)
            .ok_or_else(|| {
                s3_error!(
                    NoSuchUpload,
                    "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
                )
            })
    }
}

impl Contents {
    /// What a bucket is told to be; nothing, if there is none.
    pub(super) fn settings(&self, bucket: &str) -> Settings {
        let state = self.state();
        let bucket = state.buckets.get(bucket);
        bucket.map(|bucket| bucket.settings).unwrap_or_default()
    }

    pub(super) fn change_settings(
        &self,
        caller: &Caller,
        bucket: &str,
        change: impl FnOnce(&mut Settings) -> S3Result<()>,
    ) -> S3Result<()> {
        self.enter(caller, |state, _| {
            let mut settings = state.bucket(bucket)?.settings;
            change(&mut settings)?;
            if let Some(disk) = &self.disk {
                state.must(disk.put_settings(bucket, settings))?;
            }
            state.bucket(bucket)?.settings = settings;
            Ok(())
        })
    }

    pub(super) fn get(
        &self,
        caller: &Caller,
        bucket: &str,
        wanted: &Wanted<'_>,
    ) -> S3Result<Found> {
        self.enter(caller, |state, _| {
            let bucket = state.bucket(bucket)?;
            let version = wanted_version(bucket, wanted.key, wanted.version)?;
            let shown = bucket.shown(version);
            let object = &version.object;
            let seal = object.metadata.headers.seal.as_ref();
            Seal::open(seal, wanted.customer_key)?;
            wanted.conditions.check_read(object)?;
            Ok(Found {
                object: Arc::clone(object),
                version: shown,
            })
        })
    }

    /// What an object says of itself, without a look at the object, and its version.
    pub(super) fn headers(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> S3Result<(Headers, Option<String>)> {
        self.enter(caller, |state, _| {
            let bucket = state.bucket(bucket)?;
            let version = wanted_version(bucket, key, version)?;
            let headers = version.object.metadata.headers.clone();
            Ok((headers, bucket.shown(version)))
        })
    }

    /// Gives an object other tags and answers its version.
    pub(super) fn set_tags(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        tags: Tags,
    ) -> S3Result<Option<String>> {
        self.enter(caller, |state, _| {
            let place = state.bucket(bucket)?;
            let mut version = wanted_version(place, key, version)?.clone();
            let mut metadata = version.object.metadata.clone();
            metadata.headers.tags = tags;
            version.object = Arc::new(Object {
                metadata,
                body: version.object.body.clone(),
            });
            if let (Some(disk), Some(staged)) = (&self.disk, self.stage(&version.object)?) {
                state.must(disk.commit_version(staged, bucket, &version))?;
            }
            let place = state.bucket(bucket)?;
            let shown = place.shown(&version);
            place.replace(version);
            Ok(shown)
        })
    }

    /// What is stored under a key, whoever asks.
    pub(super) fn peek(&self, bucket: &str, key: &str) -> Option<Arc<Object>> {
        let state = self.state();
        state.buckets.get(bucket)?.current(key).cloned()
    }

    pub(super) fn list(
        &self,
        caller: &Caller,
        bucket: &str,
        query: &Query,
    ) -> S3Result<Page<Arc<Object>>> {
        self.enter(caller, |state, _| {
            let bucket = state.bucket(bucket)?;
            if caller.flaws.stale_listing {
                let before = bucket.before_the_newest_change();
                return Ok(page(&before, query, |object| Some(Arc::clone(object))));
            }
            Ok(page(&bucket.keys, query, |chain| chain.current().cloned()))
        })
    }

    pub(super) fn list_versions(
        &self,
        caller: &Caller,
        bucket: &str,
        query: &Query,
        after: Option<(&str, Option<&str>)>,
    ) -> S3Result<VersionPage> {
        self.enter(caller, |state, _| {
            let page = state.bucket(bucket)?.versions(query, after);
            page.ok_or_else(|| s3_error!(InvalidArgument, "Invalid version id specified"))
        })
    }

    /// Answers the version.
    pub(super) fn put(
        &self,
        caller: &Caller,
        bucket: &str,
        object: Object,
        conditions: &Conditions,
    ) -> S3Result<Option<String>> {
        let staged = self.stage(&object)?;
        let key = object.metadata.key.clone();
        let conditions = conditions.heeded(caller.flaws);
        let check =
            |state: &mut State| check_write(state.bucket(bucket)?, &key, &conditions, caller);
        let checked = self.race(caller, check)?;
        self.enter(caller, |state, sequence| {
            if !checked {
                check(state)?;
            }
            self.insert(state, sequence, caller, bucket, object, staged)
        })
    }

    pub(super) fn delete(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        version: Option<&str>,
        if_match: Option<&ETagCondition>,
    ) -> S3Result<Removed> {
        let if_match = if_match.filter(|_| !caller.flaws.ignore_conditional_delete);
        let check = |state: &mut State| {
            Conditions::check_deletion(if_match, state.bucket(bucket)?.current(key))
        };
        let checked = self.race(caller, check)?;
        self.enter(caller, |state, sequence| {
            if !checked {
                check(state)?;
            }
            self.remove(state, sequence, caller, bucket, key, version)
        })
    }

    /// Each a key and perhaps a version.
    pub(super) fn delete_many(
        &self,
        caller: &Caller,
        bucket: &str,
        targets: &[(String, Option<String>)],
    ) -> S3Result<Vec<Removed>> {
        self.enter(caller, |state, sequence| {
            state.bucket(bucket)?;
            let removed = targets.iter().map(|(key, version)| {
                self.remove(state, sequence, caller, bucket, key, version.as_deref())
            });
            removed.collect()
        })
    }

    pub(super) fn create_upload(
        &self,
        caller: &Caller,
        bucket: &str,
        id: String,
        upload: Upload,
    ) -> S3Result<()> {
        self.enter(caller, |state, _| {
            state.bucket(bucket)?.uploads.insert(id, upload);
            Ok(())
        })
    }

    pub(super) fn put_part(
        &self,
        caller: &Caller,
        place: &Place,
        number: i32,
        part: Part,
        customer_key: Option<&CustomerKey>,
    ) -> S3Result<()> {
        self.enter(caller, |state, _| {
            let upload = state.upload(place)?;
            Seal::open(upload.headers.seal.as_ref(), customer_key)?;
            upload.parts.insert(number, part);
            Ok(())
        })
    }

    pub(super) fn parts(&self, caller: &Caller, place: &Place) -> S3Result<BTreeMap<i32, Part>> {
        self.enter(caller, |state, _| Ok(state.upload(place)?.parts.clone()))
    }

    pub(super) fn abort_upload(&self, caller: &Caller, place: &Place) -> S3Result<()> {
        self.enter(caller, |state, _| {
            state.upload(place)?;
            state.bucket(&place.bucket)?.uploads.remove(&place.id);
            Ok(())
        })
    }

    /// Makes an object of an upload's parts and answers its metadata and its version.
    pub(super) fn complete_upload(
        &self,
        caller: &Caller,
        place: &Place,
        listed: &[Listed],
        conditions: &Conditions,
    ) -> S3Result<(Metadata, Option<String>)> {
        let upload = self.enter(caller, |state, _| -> S3Result<_> {
            Ok(state.upload(place)?.clone())
        })?;
        let Joined {
            body,
            etag,
            checksum,
        } = upload.join(listed)?;
        let object = Object::with_etag(&place.key, body, etag, checksum, upload.headers);
        let metadata = object.metadata.clone();
        let staged = self.stage(&object)?;
        let conditions = conditions.heeded(caller.flaws);
        let check = |state: &mut State| {
            // Another may have completed or aborted it meanwhile.
            state.upload(place)?;
            let bucket = state.bucket(&place.bucket)?;
            check_write(bucket, &place.key, &conditions, caller)
        };
        let checked = self.race(caller, check)?;
        let version = self.enter(caller, |state, sequence| {
            if !checked {
                check(state)?;
            }
            state.upload(place)?;
            state.bucket(&place.bucket)?.uploads.remove(&place.id);
            self.insert(state, sequence, caller, &place.bucket, object, staged)
        })?;
        Ok((metadata, version))
    }

    /// Every generation of a key since the start, the first one first.
    pub(super) fn history(&self, bucket: &str, key: &str) -> Vec<Generation> {
        let state = self.state();
        let Some(bucket) = state.buckets.get(bucket) else {
            return Vec::new();
        };
        let of_key = bucket.history.iter().filter(|(of, _)| of == key);
        of_key.map(|(_, generation)| generation.clone()).collect()
    }

    fn stage(&self, object: &Object) -> S3Result<Option<Staged>> {
        let staged = self.disk.as_ref().map(|disk| disk.stage_object(object));
        Ok(staged.transpose().map_err(Failure::Disk)?)
    }

    fn insert(
        &self,
        state: &mut State,
        sequence: u64,
        caller: &Caller,
        bucket: &str,
        object: Object,
        staged: Option<Staged>,
    ) -> S3Result<Option<String>> {
        let key = object.metadata.key.clone();
        let place = state.bucket(bucket)?;
        let before = place.current(&key).cloned();
        let version = place.version(object);
        let replaced = place.find(&key, &version.id).cloned();
        if let (Some(disk), Some(staged)) = (&self.disk, staged) {
            let committed = disk.commit_version(staged, bucket, &version);
            state.must(committed)?;
            // After a crash in between, the next start does this.
            if let Some(replaced) = replaced.filter(|it| it.order != version.order) {
                state.must(disk.remove_version(bucket, &replaced))?;
            }
        }
        let place = state.bucket(bucket)?;
        let shown = place.shown(&version);
        place.push(&key, version);
        self.record(place, sequence, caller, &key, before);
        Ok(shown)
    }

    fn remove(
        &self,
        state: &mut State,
        sequence: u64,
        caller: &Caller,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> S3Result<Removed> {
        let place = state.bucket(bucket)?;
        if version.is_none() && place.settings.versioning != Versioning::Off {
            let marker = Object::delete_marker(key);
            let staged = self.stage(&marker)?;
            return Ok(Removed {
                version: self.insert(state, sequence, caller, bucket, marker, staged)?,
                delete_marker: true,
            });
        }
        let Some(removed) = place.find(key, version.unwrap_or(NULL)).cloned() else {
            return Ok(Removed {
                version: version.map(str::to_owned),
                delete_marker: false,
            });
        };
        let before = place.current(key).cloned();
        if let Some(disk) = &self.disk {
            state.must(disk.remove_version(bucket, &removed))?;
        }
        let place = state.bucket(bucket)?;
        place.remove(key, &removed.id);
        self.record(place, sequence, caller, key, before);
        Ok(Removed {
            delete_marker: removed.is_delete_marker(),
            version: place.shown(&removed),
        })
    }

    /// Keeps what a change has made of a key, if it made something of it.
    fn record(
        &self,
        bucket: &mut Bucket,
        sequence: u64,
        caller: &Caller,
        key: &str,
        before: Option<Arc<Object>>,
    ) {
        let now = bucket.current(key).cloned();
        let is_same = match (&before, &now) {
            (None, None) => true,
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            _ => false,
        };
        if is_same {
            return;
        }
        bucket.newest_change = Some((key.to_owned(), before));
        if self.is_recording() {
            let latest = bucket.latest(key);
            let generation = Generation {
                sequence,
                etag: now.as_ref().map(|now| now.metadata.quoted_etag()),
                body: now.as_ref().map(|now| now.body.clone()),
                version_id: latest.and_then(|latest| bucket.shown(latest)),
                user_agent: caller.user_agent.clone(),
            };
            bucket.history.push((key.to_owned(), generation));
        }
    }
}

fn check_write(
    bucket: &Bucket,
    key: &str,
    conditions: &Conditions,
    caller: &Caller,
) -> S3Result<()> {
    if caller.flaws.sticky_delete_markers
        && conditions.if_none_match.is_some()
        && bucket.latest(key).is_some_and(Version::is_delete_marker)
    {
        return Err(failed("If-None-Match"));
    }
    conditions.check_write(bucket.current(key))
}

/// The version that a request names, or the newest one, unless it is a delete marker.
fn wanted_version<'a>(
    bucket: &'a Bucket,
    key: &str,
    version: Option<&str>,
) -> S3Result<&'a Version> {
    let found = match version {
        None => bucket.latest(key).ok_or_else(no_such_key)?,
        Some(id) => bucket
            .find(key, id)
            .ok_or_else(|| s3_error!(NoSuchVersion, "The specified version does not exist."))?,
    };
    if found.is_delete_marker() {
        return Err(deleted(version.is_some(), bucket.shown(found)));
    }
    Ok(found)
}

/// The answer to a read that meets a delete marker.
fn deleted(by_version: bool, version: Option<String>) -> S3Error {
    let mut error = if by_version {
        s3_error!(
            MethodNotAllowed,
            "The specified method is not allowed against this resource."
        )
    } else {
        no_such_key()
    };
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Some(Ok(version)) = version.map(HeaderValue::try_from) {
        headers.insert("x-amz-version-id", version);
    }
    error.set_headers(headers);
    error
}
