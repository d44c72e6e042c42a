//! The verdict of `doctor` about a store, kept for the commands that lock there.
//!
//! `{"format_version", "endpoint", "bucket", "dynamodb_table" or null, "locks": ["s3", "dynamodb"], "date", "version", "component", "rounds",
//! "contenders", "verdict", "reasons", "failed_checks"}`, and never a secret.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use cofferdam::{CheckOutcome, ProbeReport, Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::output::FORMAT_VERSION;
use crate::site::Site;

/// Bytes. No verdict is nearly as long.
const LONGEST: u64 = 1 << 20;

/// A verdict as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    format_version: String,
    endpoint: String,
    bucket: String,
    pub(crate) dynamodb_table: Option<String>,
    /// The places of locks that the verdict is about.
    pub(crate) locks: Vec<String>,
    /// When it was found.
    #[serde(with = "date")]
    pub(crate) date: Timestamp,
    /// Of this program.
    version: String,
    /// SHA-256 of the component.
    component: String,
    rounds: u32,
    contenders: u32,
    pub(crate) verdict: Verdict,
    pub(crate) reasons: Vec<String>,
    /// Names of the checks that failed.
    pub(crate) failed_checks: Vec<String>,
}

impl Record {
    pub(crate) fn new(site: &Site, report: &ProbeReport, component: &str) -> Self {
        let failed = report
            .checks
            .iter()
            .filter(|check| check.outcome == CheckOutcome::Failed);
        Self {
            format_version: FORMAT_VERSION.to_owned(),
            endpoint: site.endpoint.clone(),
            bucket: site.bucket.clone(),
            dynamodb_table: site.table.clone(),
            locks: match &*site.places() {
                // Without a lock, the question is about the one in the bucket.
                [] => vec!["s3".to_owned()],
                places => places.iter().map(|&place| place.to_owned()).collect(),
            },
            date: Timestamp::now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            component: component.to_owned(),
            rounds: report.rounds,
            contenders: report.contenders,
            verdict: report.verdict,
            reasons: report.reasons.clone(),
            failed_checks: failed.map(|check| check.name.clone()).collect(),
        }
    }

    fn is_about(&self, site: &Site) -> bool {
        self.endpoint == site.endpoint && self.bucket == site.bucket
    }
}

/// RFC 3339.
mod date {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(date: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(date)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The file of a site's verdict: the one that the person names, else one in the user's cache folder. None: there is
/// no such folder.
pub(crate) fn place(named: Option<&Path>, site: &Site) -> Option<PathBuf> {
    match named {
        Some(path) => Some(path.to_owned()),
        None => Some(cache_folder()?.join(file_name(site))),
    }
}

/// What is known about a site; an error says why it cannot be read. A verdict about another site does not count.
pub(crate) fn load(path: &Path, site: &Site) -> Result<Option<Record>, String> {
    let failed = |reason: String| format!("the verdict in {} {reason}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(format!("cannot be read: {error}"))),
    };
    let mut bytes = Vec::new();
    file.take(LONGEST)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(format!("cannot be read: {error}")))?;
    let record: Record = serde_json::from_slice(&bytes)
        .map_err(|error| failed(format!("is none that this version understands: {error}")))?;
    if record.is_about(site) {
        Ok(Some(record))
    } else {
        Err(failed(format!(
            "is about bucket {:?} at {}",
            record.bucket, record.endpoint
        )))
    }
}

/// Stores a verdict, whole or not at all, for this user alone.
pub(crate) fn save(path: &Path, record: &Record) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let bytes = serde_json::to_vec_pretty(record)?;
    let new = folder.join(format!(".verdict-{}", uuid::Uuid::new_v4()));
    let written = write_new(&new, &bytes).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // What cannot be written may not be there at all.
        let _ = std::fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// `$XDG_CACHE_HOME/cofferdam/verdicts`, or the same under `~/.cache`. As the XDG specification has it, a relative
/// path is ignored.
fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    let cache = match absolute("XDG_CACHE_HOME") {
        Some(cache) => cache,
        None => absolute("HOME")?.join(".cache"),
    };
    Some(cache.join("cofferdam").join("verdicts"))
}

/// Endpoints hold characters that no file name can.
fn file_name(site: &Site) -> String {
    let digest = Sha256::digest(format!("{}\n{}", site.endpoint, site.bucket));
    let hex: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{hex}.json")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    pub(crate) fn site() -> Site {
        Site {
            endpoint: "http://127.0.0.1:9000".to_owned(),
            bucket: "tfstate".to_owned(),
            lockfile: true,
            table: None,
        }
    }

    pub(crate) fn record(verdict: Verdict, failed_checks: &[&str]) -> Record {
        let site = site();
        Record {
            format_version: FORMAT_VERSION.to_owned(),
            endpoint: site.endpoint,
            bucket: site.bucket,
            dynamodb_table: None,
            locks: vec!["s3".to_owned()],
            date: Timestamp::now(),
            version: "0.1.0".to_owned(),
            component: "ab".repeat(32),
            rounds: 8,
            contenders: 16,
            verdict,
            reasons: vec!["the reason".to_owned()],
            failed_checks: failed_checks.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn a_verdict_is_kept_as_it_is_and_for_this_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/verdict.json");
        let mut record = record(Verdict::Safe, &[]);
        for verdict in [Verdict::Safe, Verdict::Unsafe, Verdict::Unknown] {
            record.verdict = verdict;
            save(&path, &record).unwrap();
            assert_eq!(load(&path, &site()), Ok(Some(record.clone())));
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "no file but the verdict is left");
    }

    #[test]
    fn a_verdict_about_another_store_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdict.json");
        save(&path, &record(Verdict::Safe, &[])).unwrap();
        for other in [
            Site {
                bucket: "other".to_owned(),
                ..site()
            },
            Site {
                endpoint: "http://127.0.0.1:9001".to_owned(),
                ..site()
            },
        ] {
            assert!(load(&path, &other).unwrap_err().contains("tfstate"));
            assert_ne!(file_name(&other), file_name(&site()));
        }
    }

    #[test]
    fn what_is_no_verdict_is_an_error_and_no_verdict_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdict.json");
        assert_eq!(load(&path, &site()), Ok(None));
        for text in ["", "{}", "[1]"] {
            std::fs::write(&path, text).unwrap();
            assert!(load(&path, &site()).is_err(), "{text:?}");
        }
    }
}
