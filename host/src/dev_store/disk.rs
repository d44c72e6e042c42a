//! Objects in a directory, each in one file, written so that a crash at any instant leaves either the old object
//! or the new one.
//!
//! Without this module, or with a plain write in its place, a power cut would lose a state that its writer was
//! told is stored, or leave half of it.
//!
//! Layout: `<directory>/<bucket>/<encoded key>`. A file is one line, [`MAGIC`] and the object's metadata as JSON,
//! followed by the object's bytes. It is written and synced in `.staging`, then renamed to its place, then the
//! directory of that place is synced; only after that is the client answered.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::crypto::{Checksum as _, Sha256};

use super::objects::{Metadata, Object};

/// What an object's file starts with; the number is the format's.
const MAGIC: &str = "cofferdam-object-1 ";

/// Marks a directory as a store's, and carries the lock that keeps a second process out.
const MARKER: &str = ".cofferdam-store";

const STAGING: &str = ".staging";

/// File systems take names of 255 bytes; longer ones are replaced by a hash of the key.
const LONGEST_NAME: usize = 240;

/// All that a file's name spells as itself. Capital letters do not, because some file systems take `A` and `a`
/// for the same name.
const NOT_IN_NAMES: &AsciiSet = &{
    let mut set = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
    let mut letter = b'A';
    while letter <= b'Z' {
        set = set.add(letter);
        letter += 1;
    }
    set
};

/// A directory that this process has to itself.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    marker: File,
}

impl Disk {
    /// Makes the directory if need be, locks it, and removes what unfinished writes left.
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        create_directory(&root)?;
        let path = root.join(MARKER);
        if !path.exists() && fs::read_dir(&root)?.next().is_some() {
            return Err(io::Error::other(format!(
                "{} holds other files and no store: name an empty directory, or one that does not exist",
                root.display()
            )));
        }
        let marker = private_file().truncate(false).open(&path)?;
        marker.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "{} is in use by another embedded store: stop that one, or name another directory",
                    root.display()
                ),
            ),
            TryLockError::Error(error) => error,
        })?;
        let staging = root.join(STAGING);
        create_directory(&staging)?;
        for entry in fs::read_dir(&staging)? {
            match fs::remove_file(entry?.path()) {
                // A store that was just stopped clears up behind itself at the same time.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        // Also for a start that ended between making a directory and syncing the one above it.
        sync_directory(&root)?;
        sync_directory(root.parent().unwrap_or(Path::new("")))?;
        Ok(Self { root, marker })
    }

    /// Every bucket with its objects.
    pub(super) fn load(&self) -> io::Result<BTreeMap<String, (SystemTime, Vec<Object>)>> {
        let mut buckets = BTreeMap::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') || !entry.file_type()?.is_dir() {
                continue;
            }
            let mut objects = Vec::new();
            for file in fs::read_dir(entry.path())? {
                let file = file?;
                // No object's name starts so; desktops leave such files.
                if !file.file_name().as_encoded_bytes().starts_with(b".") {
                    objects.push(read_object(&file.path())?);
                }
            }
            let about = entry.metadata()?;
            let created = about.created().or_else(|_| about.modified())?;
            buckets.insert(name, (created, objects));
        }
        Ok(buckets)
    }

    pub(super) fn create_bucket(&self, bucket: &str) -> io::Result<()> {
        create_directory(&self.root.join(bucket))
    }

    /// Writes an object to where it does not count yet, and sees it onto the disk.
    pub(super) fn stage(&self, object: &Object) -> io::Result<Staged> {
        let path = self
            .root
            .join(STAGING)
            .join(uuid::Uuid::new_v4().to_string());
        let staged = Staged { path };
        let mut file = private_file().create_new(true).open(&staged.path)?;
        let mut head = MAGIC.as_bytes().to_vec();
        serde_json::to_writer(&mut head, &object.metadata)?;
        head.push(b'\n');
        file.write_all(&head)?;
        file.write_all(&object.body)?;
        file.sync_all()?;
        Ok(staged)
    }

    /// Puts a staged object in its place. After an error it may or may not be there.
    pub(super) fn commit(&self, staged: Staged, bucket: &str, key: &str) -> io::Result<()> {
        fs::rename(&staged.path, self.place(bucket, key))?;
        sync_directory(&self.root.join(bucket))
    }

    /// Removes an object. After an error it may or may not be there.
    pub(super) fn remove(&self, bucket: &str, key: &str) -> io::Result<()> {
        fs::remove_file(self.place(bucket, key))?;
        sync_directory(&self.root.join(bucket))
    }

    /// Lets others have the directory.
    pub(super) fn release(&self) -> io::Result<()> {
        self.marker.unlock()
    }

    fn place(&self, bucket: &str, key: &str) -> PathBuf {
        self.root.join(bucket).join(file_name(key))
    }
}

/// An object that was written and does not count yet. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone when it was put in its place; what cannot be removed now is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// The key itself stands in the file; its name only has to be its own.
fn file_name(key: &str) -> String {
    let mut name = utf8_percent_encode(key, NOT_IN_NAMES).to_string();
    if let Some(rest) = name.strip_prefix('.') {
        name = format!("%2E{rest}");
    }
    if name.len() > LONGEST_NAME {
        // No encoded key starts with `~`.
        name = Sha256::checksum(key.as_bytes())
            .iter()
            .fold(String::from("~"), |name, byte| format!("{name}{byte:02x}"));
    }
    name
}

fn read_object(path: &Path) -> io::Result<Object> {
    let damaged = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} is no object of an embedded store ({what}): move it elsewhere and start again",
                path.display()
            ),
        )
    };
    let content = Bytes::from(fs::read(path)?);
    let end = content
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or_else(|| damaged("its first line does not end"))?;
    let head = content[..end]
        .strip_prefix(MAGIC.as_bytes())
        .ok_or_else(|| damaged("its first line is another"))?;
    let metadata: Metadata =
        serde_json::from_slice(head).map_err(|_| damaged("its metadata can't be read"))?;
    let body = content.slice(end + 1..);
    if body.len() as u64 != metadata.size {
        return Err(damaged("its length is wrong"));
    }
    if path.file_name() != Some(file_name(&metadata.key).as_ref()) {
        return Err(damaged("its name is not its key's"));
    }
    Ok(Object { metadata, body })
}

/// States hold secrets: only the owner may read what is written.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a directory and those above it, each so that it is still there after a power cut.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    create_directory(parent)?;
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    sync_directory(parent)
}

/// Sees the names in a directory onto the disk.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

/// Elsewhere a directory can't be opened as a file, and the file system writes renames in order.
#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::server::plain_object;
    use super::*;

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("cofferdam-{}", uuid::Uuid::new_v4())))
        }

        /// What a start after a crash finds of the object `k`.
        fn after_crash(&self) -> Option<Bytes> {
            let disk = Disk::open(self.0.clone()).unwrap();
            let mut buckets = disk.load().unwrap();
            let objects = buckets.remove("b").map(|(_, objects)| objects);
            objects
                .into_iter()
                .flatten()
                .find(|object| object.metadata.key == "k")
                .map(|object| object.body)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_crash_at_any_stage_of_a_change_leaves_the_old_object_or_the_new_one() {
        let scratch = Scratch::new();
        let object = |body: &'static str| plain_object("k", Bytes::from_static(body.as_bytes()));
        let disk = Disk::open(scratch.0.clone()).unwrap();
        disk.create_bucket("b").unwrap();
        let staged = disk.stage(&object("old")).unwrap();
        disk.commit(staged, "b", "k").unwrap();
        drop(disk);
        assert_eq!(scratch.after_crash().unwrap(), "old");

        let disk = Disk::open(scratch.0.clone()).unwrap();
        let staged = disk.stage(&object("new")).unwrap();
        // Half of it was written.
        fs::write(&staged.path, "cofferdam-object-1 {\"key\"").unwrap();
        std::mem::forget(staged);
        // All of it was written, and it was not put in its place.
        std::mem::forget(disk.stage(&object("new")).unwrap());
        drop(disk);
        assert_eq!(scratch.after_crash().unwrap(), "old");
        let left = fs::read_dir(scratch.0.join(STAGING)).unwrap().count();
        assert_eq!(left, 0, "what is left over is removed");

        let disk = Disk::open(scratch.0.clone()).unwrap();
        let staged = disk.stage(&object("new")).unwrap();
        disk.commit(staged, "b", "k").unwrap();
        drop(disk);
        assert_eq!(scratch.after_crash().unwrap(), "new");

        let disk = Disk::open(scratch.0.clone()).unwrap();
        disk.remove("b", "k").unwrap();
        drop(disk);
        assert_eq!(scratch.after_crash(), None);
    }

    #[test]
    fn keys_have_file_names_of_their_own_that_every_file_system_takes() {
        assert_eq!(file_name("env:/a/s.tflock"), "env%3A%2Fa%2Fs.tflock");
        assert_eq!(file_name("A"), "%41");
        assert_eq!(file_name("../x"), "%2E.%2Fx");
        let long = "k".repeat(1024);
        assert!(file_name(&long).len() < 255);
        assert_ne!(file_name(&long), file_name(&"k".repeat(1023)));
    }
}
