//! The objects, behind one lock.
//!
//! Without this module two writers whose conditions both hold could both be let in: a condition and the effect
//! that depends on it must be one critical section, and the order of these sections is the order that
//! [`Request::sequence`](super::Request::sequence) tells.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use s3s::dto::ETagCondition;
use s3s::{S3Error, S3Result, s3_error};
use serde::{Deserialize, Serialize};

use crate::checksum::hex;

use super::checksum::{Checksum, Verified};
use super::disk::{Disk, Staged};
use super::listing::{Page, Query, page};
use super::log::{Caller, Generation};
use super::uploads::{Joined, Listed, Part, Upload};

/// An object. It has no `Debug`: its bytes may be a state.
pub(super) struct Object {
    pub(super) metadata: Metadata,
    pub(super) body: Bytes,
}

impl Object {
    pub(super) fn new(key: &str, body: Bytes, verified: &Verified, headers: Headers) -> Self {
        Self::with_etag(
            key,
            body,
            hex(&verified.md5),
            verified.checksum.clone(),
            headers,
        )
    }

    pub(super) fn with_etag(
        key: &str,
        body: Bytes,
        etag: String,
        checksum: Checksum,
        headers: Headers,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            metadata: Metadata {
                key: key.to_owned(),
                size: body.len() as u64,
                etag,
                modified: now.map_or(0, |since| since.as_secs()),
                checksum,
                headers,
            },
            body,
        }
    }
}

/// What is kept with an object's bytes, also on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) key: String,
    /// Bytes.
    pub(super) size: u64,
    /// Without quotes.
    pub(super) etag: String,
    /// Seconds since 1970.
    pub(super) modified: u64,
    pub(super) checksum: Checksum,
    pub(super) headers: Headers,
}

impl Metadata {
    pub(super) fn quoted_etag(&self) -> String {
        format!("\"{}\"", self.etag)
    }
}

/// The headers that an object gives back as it was given them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Headers {
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    /// `x-amz-server-side-encryption`; nothing is encrypted.
    pub(super) encryption: Option<String>,
    pub(super) kms_key: Option<String>,
}

/// What a request says must be stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

impl Conditions {
    /// For a write: the object it is about to replace.
    fn check_write(&self, present: Option<&Arc<Object>>) -> S3Result<()> {
        if let Some(condition) = &self.if_match {
            let present = present.ok_or_else(no_such_key)?;
            if !matches(condition, present) {
                return Err(failed("If-Match"));
            }
        }
        match (&self.if_none_match, present) {
            (Some(ETagCondition::Any), Some(_)) => Err(failed("If-None-Match")),
            (Some(ETagCondition::ETag(_)), _) => Err(s3_error!(
                NotImplemented,
                "If-None-Match takes only * on a write"
            )),
            _ => Ok(()),
        }
    }

    /// For a read: the object it is about to answer.
    fn check_read(&self, present: &Arc<Object>) -> S3Result<()> {
        if let Some(condition) = &self.if_match
            && !matches(condition, present)
        {
            return Err(failed("If-Match"));
        }
        if let Some(condition) = &self.if_none_match
            && matches(condition, present)
        {
            let mut error = s3_error!(NotModified);
            let mut headers = http::HeaderMap::new();
            if let Ok(etag) = present.metadata.quoted_etag().parse() {
                headers.insert(http::header::ETAG, etag);
            }
            error.set_headers(headers);
            return Err(error);
        }
        Ok(())
    }
}

/// All buckets, in memory, and on disk when there is one.
pub(super) struct Objects {
    disk: Option<Disk>,
    /// Whether generations are kept.
    recording: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buckets: BTreeMap<String, Bucket>,
    sequence: u64,
    /// Why nothing is answered any more.
    stopped: Option<&'static str>,
}

struct Bucket {
    created: SystemTime,
    objects: BTreeMap<String, Arc<Object>>,
    uploads: BTreeMap<String, Upload>,
    history: Vec<(String, Generation)>,
}

impl Bucket {
    fn new(created: SystemTime) -> Self {
        Self {
            created,
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            history: Vec::new(),
        }
    }

    fn upload(&mut self, id: &str, key: &str) -> S3Result<&mut Upload> {
        self.uploads
            .get_mut(id)
            .filter(|upload| upload.key == key)
            .ok_or_else(|| {
                s3_error!(
                    NoSuchUpload,
                    "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
                )
            })
    }
}

impl State {
    fn bucket(&mut self, name: &str) -> S3Result<&mut Bucket> {
        self.buckets
            .get_mut(name)
            .ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }
}

impl Objects {
    pub(super) fn new(disk: Option<Disk>, recording: bool) -> io::Result<Self> {
        let mut state = State::default();
        if let Some(disk) = &disk {
            for (name, (created, objects)) in disk.load()? {
                let mut bucket = Bucket::new(created);
                for object in objects {
                    bucket
                        .objects
                        .insert(object.metadata.key.clone(), Arc::new(object));
                }
                state.buckets.insert(name, bucket);
            }
        }
        Ok(Self {
            disk,
            recording,
            state: Mutex::new(state),
        })
    }

    /// Whether a change waits for a disk.
    pub(super) fn is_durable(&self) -> bool {
        self.disk.is_some()
    }

    pub(super) fn is_recording(&self) -> bool {
        self.recording
    }

    /// From here on nothing changes any more, and another process may have the directory.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.stopped = Some("the store was stopped");
        if let Some(disk) = &self.disk {
            // What holds the lock then is the handle, which goes with the store.
            let _ = disk.release();
        }
    }

    /// A place in the order of effects for a request that never came as far as the objects.
    pub(super) fn next_sequence(&self) -> u64 {
        let mut state = self.state();
        state.sequence += 1;
        state.sequence
    }

    pub(super) fn create_bucket(&self, caller: &Caller, name: &str) -> S3Result<()> {
        self.enter(caller, |state, _| {
            match state.buckets.entry(name.to_owned()) {
                Entry::Occupied(_) => Err(s3_error!(
                    BucketAlreadyOwnedByYou,
                    "The bucket exists, and you own it."
                )),
                Entry::Vacant(vacant) => {
                    if let Some(disk) = &self.disk {
                        disk.create_bucket(name).map_err(internal)?;
                    }
                    vacant.insert(Bucket::new(SystemTime::now()));
                    Ok(())
                }
            }
        })
    }

    pub(super) fn has_bucket(&self, caller: &Caller, name: &str) -> S3Result<()> {
        self.enter(caller, |state, _| state.bucket(name).map(|_| ()))
    }

    pub(super) fn buckets(&self, caller: &Caller) -> S3Result<Vec<(String, SystemTime)>> {
        self.enter(caller, |state, _| {
            Ok(state
                .buckets
                .iter()
                .map(|(name, bucket)| (name.clone(), bucket.created))
                .collect())
        })
    }

    pub(super) fn get(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        conditions: &Conditions,
    ) -> S3Result<Arc<Object>> {
        self.enter(caller, |state, _| {
            let object = state.bucket(bucket)?.objects.get(key);
            let object = object.ok_or_else(no_such_key)?;
            conditions.check_read(object)?;
            Ok(Arc::clone(object))
        })
    }

    pub(super) fn list(
        &self,
        caller: &Caller,
        bucket: &str,
        query: &Query,
    ) -> S3Result<Page<Arc<Object>>> {
        self.enter(caller, |state, _| {
            Ok(page(&state.bucket(bucket)?.objects, query))
        })
    }

    pub(super) fn put(
        &self,
        caller: &Caller,
        bucket: &str,
        object: Object,
        conditions: &Conditions,
    ) -> S3Result<()> {
        let staged = self.stage(&object)?;
        self.enter(caller, |state, sequence| {
            let present = state.bucket(bucket)?.objects.get(&object.metadata.key);
            if !caller.ignores_conditions {
                conditions.check_write(present)?;
            }
            self.insert(state, sequence, caller, bucket, object, staged)
        })
    }

    pub(super) fn delete(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        if_match: Option<&ETagCondition>,
    ) -> S3Result<()> {
        self.enter(caller, |state, sequence| {
            let present = state.bucket(bucket)?.objects.get(key);
            if let Some(condition) = if_match.filter(|_| !caller.ignores_conditions)
                && !matches(condition, present.ok_or_else(no_such_key)?)
            {
                return Err(failed("If-Match"));
            }
            self.remove(state, sequence, caller, bucket, key)
        })
    }

    pub(super) fn delete_many(
        &self,
        caller: &Caller,
        bucket: &str,
        keys: &[String],
    ) -> S3Result<()> {
        self.enter(caller, |state, sequence| {
            state.bucket(bucket)?;
            keys.iter()
                .try_for_each(|key| self.remove(state, sequence, caller, bucket, key))
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
        bucket: &str,
        key: &str,
        id: &str,
        number: i32,
        part: Part,
    ) -> S3Result<()> {
        self.enter(caller, |state, _| {
            let upload = state.bucket(bucket)?.upload(id, key)?;
            upload.parts.insert(number, part);
            Ok(())
        })
    }

    pub(super) fn parts(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        id: &str,
    ) -> S3Result<BTreeMap<i32, Part>> {
        self.enter(caller, |state, _| {
            Ok(state.bucket(bucket)?.upload(id, key)?.parts.clone())
        })
    }

    pub(super) fn abort_upload(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        id: &str,
    ) -> S3Result<()> {
        self.enter(caller, |state, _| {
            let bucket = state.bucket(bucket)?;
            bucket.upload(id, key)?;
            bucket.uploads.remove(id);
            Ok(())
        })
    }

    /// Makes an object of an upload's parts and answers its metadata.
    pub(super) fn complete_upload(
        &self,
        caller: &Caller,
        bucket: &str,
        key: &str,
        id: &str,
        listed: &[Listed],
        conditions: &Conditions,
    ) -> S3Result<Metadata> {
        let upload = self.enter(caller, |state, _| {
            Ok(state.bucket(bucket)?.upload(id, key)?.clone())
        })?;
        let Joined {
            body,
            etag,
            checksum,
        } = upload.join(listed)?;
        let object = Object::with_etag(key, body, etag, checksum, upload.headers);
        let metadata = object.metadata.clone();
        let staged = self.stage(&object)?;
        self.enter(caller, |state, sequence| {
            let place = state.bucket(bucket)?;
            // Another may have completed or aborted it meanwhile.
            place.upload(id, key)?;
            if !caller.ignores_conditions {
                conditions.check_write(place.objects.get(key))?;
            }
            place.uploads.remove(id);
            self.insert(state, sequence, caller, bucket, object, staged)
        })?;
        Ok(metadata)
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

    /// The critical section: gives the request its place and lets it have its effect.
    fn enter<T>(
        &self,
        caller: &Caller,
        effect: impl FnOnce(&mut State, u64) -> S3Result<T>,
    ) -> S3Result<T> {
        let mut state = self.state();
        state.sequence += 1;
        let sequence = state.sequence;
        caller.set_sequence(sequence);
        if let Some(reason) = state.stopped {
            return Err(s3_error!(ServiceUnavailable, "{reason}"));
        }
        effect(&mut state, sequence)
    }

    fn stage(&self, object: &Object) -> S3Result<Option<Staged>> {
        let staged = self.disk.as_ref().map(|disk| disk.stage(object));
        staged.transpose().map_err(internal)
    }

    fn insert(
        &self,
        state: &mut State,
        sequence: u64,
        caller: &Caller,
        bucket: &str,
        object: Object,
        staged: Option<Staged>,
    ) -> S3Result<()> {
        let key = object.metadata.key.clone();
        if let (Some(disk), Some(staged)) = (&self.disk, staged) {
            let committed = disk.commit(staged, bucket, &key);
            Self::must(state, committed)?;
        }
        let place = state.bucket(bucket)?;
        if self.recording {
            place.history.push((
                key.clone(),
                Generation {
                    sequence,
                    etag: Some(object.metadata.quoted_etag()),
                    body: Some(object.body.clone()),
                    user_agent: caller.user_agent.clone(),
                },
            ));
        }
        place.objects.insert(key, Arc::new(object));
        Ok(())
    }

    fn remove(
        &self,
        state: &mut State,
        sequence: u64,
        caller: &Caller,
        bucket: &str,
        key: &str,
    ) -> S3Result<()> {
        if !state.bucket(bucket)?.objects.contains_key(key) {
            return Ok(());
        }
        if let Some(disk) = &self.disk {
            Self::must(state, disk.remove(bucket, key))?;
        }
        let place = state.bucket(bucket)?;
        place.objects.remove(key);
        if self.recording {
            place.history.push((
                key.to_owned(),
                Generation {
                    sequence,
                    etag: None,
                    body: None,
                    user_agent: caller.user_agent.clone(),
                },
            ));
        }
        Ok(())
    }

    /// After a failed change nobody knows what a crash would leave on the disk: only a new start can tell, by
    /// reading it.
    fn must(state: &mut State, done: io::Result<()>) -> S3Result<()> {
        done.map_err(|error| {
            state.stopped = Some("the disk failed under a change: start the store again");
            internal(error)
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn matches(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.as_strong() == Some(object.metadata.etag.as_str()),
    }
}

fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}

fn failed(condition: &str) -> S3Error {
    s3_error!(
        PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold: {condition}"
    )
}

fn internal(error: io::Error) -> S3Error {
    s3_error!(InternalError, "The disk failed: {error}")
}
