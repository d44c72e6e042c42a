//! Bundles of certificate authorities, each in memory once.
//!
//! One with all public authorities has 220 kB. Without this module every store of a process would read, check and keep its
//! own wherever a variable of the machine, `AWS_CA_BUNDLE`, names one: more memory and more time than all the rest of it.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::tls::CertificatesError;
use crate::small_file;

/// Certificate authorities in PEM form.
#[derive(Debug)]
pub(crate) struct Bundle {
    pem: Box<[u8]>,
    /// Parsed with the first TLS connection: all public authorities take as long as half a start.
    roots: OnceLock<Arc<RootCertStore>>,
}

impl Bundle {
    /// The bundle with this text. What is no certificate in it is passed over, as Go does.
    ///
    /// # Errors
    /// When none is left.
    pub(super) fn of(pem: Vec<u8>) -> Result<Arc<Self>, CertificatesError> {
        if let Some(known) = find(|known| *known.bundle.pem == *pem) {
            return Ok(known);
        }
        let mut roots = RootCertStore::empty();
        if !certificates(&pem).any(|certificate| roots.add(certificate).is_ok()) {
            return Err(CertificatesError);
        }
        let bundle = Arc::new(Self {
            pem: pem.into(),
            roots: OnceLock::new(),
        });
        keep(&bundle, None);
        Ok(bundle)
    }

    /// The bundle in a file, which is not read again while it is in memory and nothing happens to the file.
    ///
    /// # Errors
    /// When the file can't be read, or there is no certificate in it.
    pub(super) fn in_file(path: &Path) -> io::Result<Result<Arc<Self>, CertificatesError>> {
        // Looked at before it is read: what is written meanwhile makes another version of it.
        let version = Version::of(path, &std::fs::metadata(path)?, SystemTime::now());
        if version.is_some()
            && let Some(known) = find(|known| known.version == &version)
        {
            return Ok(Ok(known));
        }
        let bundle = Self::of(small_file::read(path)?);
        if let (Ok(bundle), Some(_)) = (&bundle, &version) {
            keep(bundle, version);
        }
        Ok(bundle)
    }

    /// What it trusts.
    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        let roots = self.roots.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(&self.pem));
            Arc::new(roots)
        });
        Arc::clone(roots)
    }
}

fn certificates(pem: &[u8]) -> impl Iterator<Item = CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok)
}

/// A file at one time. Nobody can change its content and set the time of the change back.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    path: PathBuf,
    device: u64,
    file: u64,
    size: u64,
    /// Seconds and nanoseconds since 1970.
    changed: (i64, i64),
}

impl Version {
    /// None: a change of the file could pass unnoticed.
    #[cfg(unix)]
    fn of(path: &Path, metadata: &Metadata, now: SystemTime) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;

        /// The clocks of file systems have steps of up to 2 s: what was written just now could be written again within
        /// one of them. Seconds.
        const SETTLED: i64 = 3;

        let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let settled = metadata.ctime().checked_add(SETTLED)? <= i64::try_from(now).ok()?;
        settled.then(|| Self {
            path: path.to_owned(),
            device: metadata.dev(),
            file: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    #[cfg(not(unix))]
    fn of(_path: &Path, _metadata: &Metadata, _now: SystemTime) -> Option<Self> {
        None
    }
}

/// The bundles that stores hold, and the files that they were read from, if any.
static KEPT: Mutex<Vec<(Option<Version>, Weak<Bundle>)>> = Mutex::new(Vec::new());

/// One that is in memory.
struct Known<'k> {
    version: &'k Option<Version>,
    bundle: &'k Bundle,
}

fn find(wanted: impl Fn(Known<'_>) -> bool) -> Option<Arc<Bundle>> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.iter().find_map(|(version, bundle)| {
        let bundle = bundle.upgrade()?;
        wanted(Known {
            version,
            bundle: &bundle,
        })
        .then_some(bundle)
    })
}

fn keep(bundle: &Arc<Bundle>, version: Option<Version>) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.retain(|(_, bundle)| bundle.strong_count() > 0);
    kept.push((version, Arc::downgrade(bundle)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(name: &str) -> String {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        made.cert.pem()
    }

    #[test]
    fn one_text_is_in_memory_once_and_goes_with_its_last_store() {
        let (one, other) = (pem("one.test"), pem("other.test"));
        let first = Bundle::of(one.clone().into()).unwrap();
        let second = Bundle::of(one.into()).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first.roots(), &second.roots()));
        let third = Bundle::of(other.into()).unwrap();
        assert!(!Arc::ptr_eq(&first, &third));
        let gone = Arc::downgrade(&first);
        drop((first, second));
        assert!(gone.upgrade().is_none());
    }

    #[test]
    fn a_file_that_changed_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authorities.pem");
        let texts = [pem("a.test"), pem("b.test")];
        for text in texts.iter().cycle().take(6) {
            std::fs::write(&path, text).unwrap();
            let bundle = Bundle::in_file(&path).unwrap().unwrap();
            assert_eq!(&*bundle.pem, text.as_bytes());
        }
        std::fs::write(&path, "nothing").unwrap();
        assert_eq!(
            Bundle::in_file(&path).unwrap().err(),
            Some(CertificatesError)
        );
        std::fs::remove_file(&path).unwrap();
        assert!(Bundle::in_file(&path).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_written_just_now_may_yet_change_unnoticed() {
        use std::time::Duration;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authorities.pem");
        let version = |later| {
            let metadata = std::fs::metadata(&path).unwrap();
            Version::of(&path, &metadata, metadata.modified().unwrap() + later)
        };
        std::fs::write(&path, "one").unwrap();
        assert_eq!(version(Duration::from_secs(1)), None);
        let settled = version(Duration::from_secs(5));
        assert!(settled.is_some());
        assert_eq!(version(Duration::from_secs(60)), settled);
        std::fs::write(&path, "three").unwrap();
        assert_ne!(version(Duration::from_secs(5)), settled);
    }
}
