//! What a probe leaves behind, and its removal.
//!
//! A tool that asks whether a bucket is safe must not be what fills it up: everything is noted before it is sent, also what
//! may never arrive, and removed however the probe ended. What can't be removed is named.

use crate::aws::error::StoreError;
use crate::aws::http::{Answer, Failure};
use crate::dynamodb::{Attribute, ItemCondition};
use crate::operation::{Failed, Operation};
use crate::platform::Platform;

use super::{CONTENDERS, Probe};

/// How often what is left is looked for and removed.
const PASSES: u32 = 3;

/// Everything that may be there because of a probe. Each stands once.
#[derive(Default)]
pub(super) struct Traces {
    objects: Vec<Trace>,
    /// Versions of objects.
    versions: Vec<Trace>,
    /// Markers of deletions. While one stands, no version that nobody knows of comes to light.
    markers: Vec<Trace>,
    /// Objects of which a request may still take effect.
    late: Vec<Trace>,
    pub(super) items: Vec<String>,
    /// Whether anything was sent that makes an object.
    has_written: bool,
    is_versioned: bool,
}

/// An object, or one version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Trace {
    key: String,
    version: Option<String>,
}

impl Trace {
    fn new(key: &str, version: Option<&str>) -> Self {
        Self {
            key: key.to_owned(),
            version: version.map(str::to_owned),
        }
    }
}

impl Traces {
    /// Notes that an object may come to be.
    pub(super) fn may_hold(&mut self, key: &str) {
        self.has_written = true;
        note(&mut self.objects, Trace::new(key, None));
    }

    /// Notes that a request for an object may take effect although nobody said so.
    pub(super) fn may_arrive_late(&mut self, key: &str) {
        note(&mut self.late, Trace::new(key, None));
    }

    /// Notes that an object was removed. Its versions stay.
    pub(super) fn is_gone(&mut self, key: &str) {
        let object = Trace::new(key, None);
        if !self.late.contains(&object) {
            self.objects.retain(|it| *it != object);
        }
    }

    /// Notes a version of an object, or the marker of its deletion.
    pub(super) fn has_version(&mut self, key: &str, version: &str, is_marker: bool) {
        self.is_versioned = true;
        let all = match is_marker {
            true => &mut self.markers,
            false => &mut self.versions,
        };
        note(all, Trace::new(key, Some(version)));
    }

    /// The key of one object.
    pub(super) fn any(&self) -> Option<String> {
        self.objects.first().map(|object| object.key.clone())
    }
}

fn note(all: &mut Vec<Trace>, trace: Trace) {
    if !all.contains(&trace) {
        all.push(trace);
    }
}

impl<P: Platform> Probe<'_, P> {
    /// Removes everything that the probe made.
    pub(super) fn clean_up(&mut self) {
        let mut left: Vec<String> = Vec::new();
        for _ in 0..PASSES {
            left.clear();
            left.extend(self.remove_objects());
            left.extend(self.remove_items());
            let found_more = self.look_for_more();
            if left.is_empty() && !found_more {
                break;
            }
        }
        left.extend(self.traces.objects.iter().map(|it| {
            format!(
                "s3://{}/{} could not be removed and is left behind.",
                self.settings.bucket, it.key
            )
        }));
        left.extend(self.traces.items.iter().map(|item| {
            format!("The item {item:?} of the table could not be removed and is left behind.")
        }));
        let old = self.traces.versions.len() + self.traces.markers.len();
        if old > 0 {
            left.push(format!(
                "{old} old versions and delete markers of the probe's objects below s3://{}/{} \
                 could not be removed.",
                self.settings.bucket, self.stem
            ));
        }
        self.report.remarks.extend(left);
    }

    /// Removes objects, then their versions. Why what is left could not be removed.
    fn remove_objects(&mut self) -> Option<String> {
        let failure = self.remove_all(self.traces.objects.clone());
        if !self.traces.is_versioned {
            return failure;
        }
        let unlisted = match self.s3().remains(&self.stem) {
            Ok(remains) => {
                self.traces.markers.clear();
                for (key, version) in remains {
                    self.traces.has_version(&key, &version, false);
                }
                None
            }
            Err(failed) => Some(self.words(&failed)),
        };
        let left = self.remove_all(self.traces.versions.clone());
        failure.or(unlisted).or(left)
    }

    /// Removes objects, or versions of them: first many at a time, then one by one what did not work at once.
    fn remove_all(&mut self, all: Vec<Trace>) -> Option<String> {
        let mut failure = None;
        for some in all.chunks(CONTENDERS) {
            let answers = {
                let s3 = self.s3();
                let requests: Vec<_> = some
                    .iter()
                    .map(|it| s3.delete_request(&it.key, it.version.as_deref(), None))
                    .collect();
                self.client.send_all_once(&requests)
            };
            for (trace, answer) in some.iter().zip(answers) {
                let version = trace.version.as_deref();
                let answer = answer.or_else(|_| {
                    let s3 = self.s3();
                    self.client
                        .send(&s3.delete_request(&trace.key, version, None))
                });
                if let Err(told) = self.settle(trace, answer) {
                    failure.get_or_insert(told);
                }
            }
        }
        failure
    }

    fn settle(&mut self, trace: &Trace, answer: Result<Answer, Failure>) -> Result<(), String> {
        let is_absent = |error: &StoreError| error.status == 404 && error.code() != "NoSuchBucket";
        match answer {
            // The marker that an ordinary deletion leaves in a bucket with versions.
            Ok(answer) if trace.version.is_none() => {
                if let Some(marker) = answer.header("x-amz-version-id") {
                    self.traces.has_version(&trace.key, marker, true);
                }
            }
            Err(failure) if !failure.is(is_absent) => {
                let operation = match trace.version {
                    None => Operation::DeleteObject,
                    Some(_) => Operation::DeleteVersion,
                };
                let key = trace.key.clone();
                return Err(self.words(&Failed {
                    operation,
                    key,
                    failure,
                }));
            }
            _ => {}
        }
        let all = match trace.version {
            None => &mut self.traces.objects,
            Some(_) => &mut self.traces.versions,
        };
        all.retain(|it| it != trace);
        Ok(())
    }

    fn remove_items(&mut self) -> Option<String> {
        let table = self.table?;
        let mut failure = None;
        for item in self.traces.items.clone() {
            match table.delete(&item, Attribute::Info, ItemCondition::Anything) {
                Ok(_) => {
                    self.traces.items.retain(|it| *it != item);
                }
                Err(failed) => failure = failure.or(Some(self.words(&failed))),
            }
        }
        failure
    }

    /// Looks whether anything is there after all, such as what arrived late. A listing that is refused changes nothing.
    fn look_for_more(&mut self) -> bool {
        if !self.traces.has_written {
            return false;
        }
        let Ok(page) = self.s3().list(&self.stem, None) else {
            return false;
        };
        for key in &page.keys {
            self.traces.may_hold(key);
        }
        !page.keys.is_empty() || !self.traces.versions.is_empty()
    }
}
