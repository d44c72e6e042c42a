//! Objects in a directory, each in one file, written so that a crash at any instant leaves either the old object
//! or the new one.
//!
//! Without this module, or with a plain write in its place, a power cut would lose a state that its writer was
//! told is stored, or leave half of it.
//!
//! Layout: `<directory>/<bucket>/<encoded key>`, of versions with `~<place>~<identifier>` behind it, a `.settings`
//! beside them, and `<directory>/.tables/<encoded table>/<encoded item>` beside a
//! `.definition`, both JSON. An object's file is one line, [`MAGIC`] and the object's metadata as JSON,
//! followed by the object's bytes. It is written and synced in `.staging`, then renamed to its place, then the
//! directory of that place is synced; only after that is the client answered.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::crypto::{Checksum as _, Sha256};
use serde::de::DeserializeOwned;

use super::dynamo::{Definition, StoredItem};
use super::object::{Metadata, Object};
use super::versions::{NULL, Settings, Version};

/// What an object's file starts with; the number is the format's.
const MAGIC: &str = "cofferdam-object-1 ";

/// Marks a directory as a store's, and carries the lock that keeps a second process out.
const MARKER: &str = ".cofferdam-store";

const STAGING: &str = ".staging";

const TABLES: &str = ".tables";

const DEFINITION: &str = ".definition";

const SETTINGS: &str = ".settings";

/// File systems take names of 255 bytes; longer ones are replaced by a hash of the key.
const LONGEST_NAME: usize = 240;

/// Bytes that the name of a version may have more than the key's.
const VERSION_SUFFIX: usize = 50;

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

    /// Every bucket with what is in it.
    pub(super) fn load(&self) -> io::Result<BTreeMap<String, StoredBucket>> {
        let mut buckets = BTreeMap::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') || !entry.file_type()?.is_dir() {
                continue;
            }
            let mut versions = Vec::new();
            for file in fs::read_dir(entry.path())? {
                let file = file?;
                // No object's name starts so; desktops leave such files.
                if !file.file_name().as_encoded_bytes().starts_with(b".") {
                    versions.push(read_version(&file.path())?);
                }
            }
            let about = entry.metadata()?;
            let bucket = StoredBucket {
                created: about.created().or_else(|_| about.modified())?,
                settings: read_settings(&entry.path().join(SETTINGS))?,
                versions: self.without_replaced(&name, versions)?,
            };
            buckets.insert(name, bucket);
        }
        Ok(buckets)
    }

    /// Ends replacements that a crash interrupted: of two versions with one identifier only the newer one stays.
    fn without_replaced(
        &self,
        bucket: &str,
        mut versions: Vec<Version>,
    ) -> io::Result<Vec<Version>> {
        versions.sort_by_key(|version| Reverse(version.order));
        let mut seen = BTreeSet::new();
        let (kept, replaced): (Vec<Version>, Vec<Version>) =
            versions.into_iter().partition(|version| {
                seen.insert((version.object.metadata.key.clone(), version.id.clone()))
            });
        for version in replaced {
            self.remove_version(bucket, &version)?;
        }
        Ok(kept)
    }

    pub(super) fn create_bucket(&self, bucket: &str, settings: Settings) -> io::Result<()> {
        create_directory(&self.root.join(bucket))?;
        self.put_settings(bucket, settings)
    }

    pub(super) fn stage_object(&self, object: &Object) -> io::Result<Staged> {
        let mut head = MAGIC.as_bytes().to_vec();
        serde_json::to_writer(&mut head, &object.metadata)?;
        head.push(b'\n');
        self.stage(&[&head, &object.body])
    }

    /// Puts a staged object in its place. After an error it may or may not be there.
    pub(super) fn commit_version(
        &self,
        staged: Staged,
        bucket: &str,
        version: &Version,
    ) -> io::Result<()> {
        staged.commit(&self.root.join(bucket), &version_name(version))
    }

    /// Removes an object. After an error it may or may not be there.
    pub(super) fn remove_version(&self, bucket: &str, version: &Version) -> io::Result<()> {
        remove(&self.root.join(bucket), &version_name(version))
    }

    pub(super) fn put_settings(&self, bucket: &str, settings: Settings) -> io::Result<()> {
        let staged = self.stage(&[&serde_json::to_vec(&settings)?])?;
        staged.commit(&self.root.join(bucket), SETTINGS)
    }

    /// Every table with its items.
    pub(super) fn load_tables(&self) -> io::Result<Vec<(Definition, Vec<StoredItem>)>> {
        let mut tables = Vec::new();
        for entry in read_directory(&self.root.join(TABLES))? {
            let folder = entry?.path();
            let Ok(definition) = fs::read(folder.join(DEFINITION)) else {
                // It was being made or removed when the store ended.
                fs::remove_dir_all(folder)?;
                continue;
            };
            let definition = read_json(&folder.join(DEFINITION), &definition)?;
            let mut items = Vec::new();
            for file in fs::read_dir(&folder)? {
                let file = file?;
                if !file.file_name().as_encoded_bytes().starts_with(b".") {
                    items.push(read_json(&file.path(), &fs::read(file.path())?)?);
                }
            }
            tables.push((definition, items));
        }
        Ok(tables)
    }

    /// The table is there as soon as its definition is.
    pub(super) fn create_table(&self, definition: &Definition) -> io::Result<()> {
        let folder = self.table(&definition.name);
        create_directory(&folder)?;
        let staged = self.stage(&[&serde_json::to_vec(definition)?])?;
        staged.commit(&folder, DEFINITION)
    }

    /// Removes a table and its items. After an error it may or may not be there.
    pub(super) fn remove_table(&self, name: &str) -> io::Result<()> {
        let folder = self.table(name);
        remove(&folder, DEFINITION)?;
        fs::remove_dir_all(&folder)
    }

    /// Stores an item. After an error it may or may not be there.
    pub(super) fn put_item(&self, table: &str, item: &StoredItem) -> io::Result<()> {
        let staged = self.stage(&[&serde_json::to_vec(item)?])?;
        staged.commit(&self.table(table), &file_name(&item.place))
    }

    /// Removes an item. After an error it may or may not be there.
    pub(super) fn remove_item(&self, table: &str, place: &str) -> io::Result<()> {
        remove(&self.table(table), &file_name(place))
    }

    /// Lets others have the directory.
    pub(super) fn release(&self) -> io::Result<()> {
        self.marker.unlock()
    }

    fn table(&self, name: &str) -> PathBuf {
        self.root.join(TABLES).join(file_name(name))
    }

    /// Writes bytes to where they do not count yet, and sees them onto the disk.
    fn stage(&self, parts: &[&[u8]]) -> io::Result<Staged> {
        let path = self
            .root
            .join(STAGING)
            .join(uuid::Uuid::new_v4().to_string());
        let staged = Staged { path };
        let mut file = private_file().create_new(true).open(&staged.path)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        Ok(staged)
    }
}

/// A file that was written and does not count yet. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Staged {
    path: PathBuf,
}

impl Staged {
    /// Puts it in its place.
    fn commit(self, folder: &Path, name: &str) -> io::Result<()> {
        fs::rename(&self.path, folder.join(name))?;
        sync_directory(folder)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Gone when it was put in its place; what cannot be removed now is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// A bucket as it is found.
pub(super) struct StoredBucket {
    pub(super) created: SystemTime,
    pub(super) settings: Settings,
    pub(super) versions: Vec<Version>,
}

/// Of a bucket that never had versions it is the key's; else it tells the version's place and identifier.
fn version_name(version: &Version) -> String {
    let key = &version.object.metadata.key;
    match version.order {
        0 => file_name(key),
        order => format!(
            "{}~{order:016x}~{}",
            name_up_to(LONGEST_NAME - VERSION_SUFFIX, key),
            version.id
        ),
    }
}

/// The key itself stands in the file; its name only has to be its own.
fn file_name(key: &str) -> String {
    name_up_to(LONGEST_NAME, key)
}

fn name_up_to(longest: usize, key: &str) -> String {
    let mut name = utf8_percent_encode(key, NOT_IN_NAMES).to_string();
    if let Some(rest) = name.strip_prefix('.') {
        name = format!("%2E{rest}");
    }
    if name.len() > longest {
        // No encoded key starts with `~`.
        name = Sha256::checksum(key.as_bytes())
            .iter()
            .fold(String::from("~"), |name, byte| format!("{name}{byte:02x}"));
    }
    name
}

/// Nothing, if there is no such directory.
fn read_directory(
    path: &Path,
) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>> + use<>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries?),
    };
    Ok(entries.into_iter().flatten())
}

fn remove(folder: &Path, name: &str) -> io::Result<()> {
    fs::remove_file(folder.join(name))?;
    sync_directory(folder)
}

fn read_json<T: DeserializeOwned>(path: &Path, content: &[u8]) -> io::Result<T> {
    // The parser's message could quote what it read.
    serde_json::from_slice(content).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{} is no file of an embedded store: move it elsewhere and start again",
                path.display()
            ),
        )
    })
}

fn read_settings(path: &Path) -> io::Result<Settings> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Settings::default()),
        content => read_json(path, &content?),
    }
}

fn read_version(path: &Path) -> io::Result<Version> {
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
    let name = path.file_name().and_then(|name| name.to_str());
    let mut from_behind = name.unwrap_or_default().rsplitn(3, '~');
    let (id, order) = match (from_behind.next(), from_behind.next(), from_behind.next()) {
        (Some(id), Some(order), Some(_)) => (id, u64::from_str_radix(order, 16).unwrap_or(0)),
        _ => (NULL, 0),
    };
    let version = Version {
        id: id.to_owned(),
        order,
        object: Arc::new(Object { metadata, body }),
    };
    if name != Some(&version_name(&version)) {
        return Err(damaged("its name is not its key's"));
    }
    Ok(version)
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
    use super::super::versions::Bucket;
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
            let bucket = buckets.remove("b").unwrap();
            let bucket = Bucket::new(bucket.created, bucket.settings, bucket.versions);
            bucket.current("k").map(|object| object.body.clone())
        }
    }

    fn object(body: &'static str) -> Object {
        plain_object("k", Bytes::from_static(body.as_bytes()))
    }

    fn put(disk: &Disk, body: &'static str, id: &str, order: u64) -> Version {
        let version = Version {
            id: id.to_owned(),
            order,
            object: Arc::new(object(body)),
        };
        let staged = disk.stage_object(&version.object).unwrap();
        disk.commit_version(staged, "b", &version).unwrap();
        version
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_crash_at_any_stage_of_a_change_leaves_the_old_object_or_the_new_one() {
        let scratch = Scratch::new();
        let disk = Disk::open(scratch.0.clone()).unwrap();
        disk.create_bucket("b", Settings::default()).unwrap();
        put(&disk, "old", NULL, 0);
        drop(disk);
        assert_eq!(scratch.after_crash().unwrap(), "old");

        let disk = Disk::open(scratch.0.clone()).unwrap();
        let staged = disk.stage_object(&object("new")).unwrap();
        // Half of it was written.
        fs::write(&staged.path, "cofferdam-object-1 {\"key\"").unwrap();
        std::mem::forget(staged);
        // All of it was written, and it was not put in its place.
        std::mem::forget(disk.stage_object(&object("new")).unwrap());
        drop(disk);
        assert_eq!(scratch.after_crash().unwrap(), "old");
        let left = fs::read_dir(scratch.0.join(STAGING)).unwrap().count();
        assert_eq!(left, 0, "what is left over is removed");

        let disk = Disk::open(scratch.0.clone()).unwrap();
        let version = put(&disk, "new", NULL, 0);
        drop(disk);
        assert_eq!(scratch.after_crash().unwrap(), "new");

        let disk = Disk::open(scratch.0.clone()).unwrap();
        disk.remove_version("b", &version).unwrap();
        drop(disk);
        assert_eq!(scratch.after_crash(), None);
    }

    #[test]
    fn a_crash_while_a_version_is_replaced_leaves_one_of_the_two() {
        let scratch = Scratch::new();
        let disk = Disk::open(scratch.0.clone()).unwrap();
        disk.create_bucket("b", Settings::default()).unwrap();
        put(&disk, "old", NULL, 0);
        put(&disk, "kept", "id", 1);
        // The old one was not removed any more.
        put(&disk, "new", NULL, 2);
        drop(disk);
        assert_eq!(scratch.after_crash().unwrap(), "new");
        let disk = Disk::open(scratch.0.clone()).unwrap();
        let versions = disk.load().unwrap().remove("b").unwrap().versions;
        let mut ids: Vec<_> = versions
            .iter()
            .map(|it| (it.order, it.id.as_str()))
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, [(1, "id"), (2, NULL)]);
        let files = fs::read_dir(scratch.0.join("b")).unwrap();
        assert_eq!(files.count(), 3, "with the settings");
        disk.put_settings(
            "b",
            Settings {
                object_lock: true,
                ..Settings::default()
            },
        )
        .unwrap();
        assert!(
            disk.load()
                .unwrap()
                .remove("b")
                .unwrap()
                .settings
                .object_lock
        );
    }

    #[test]
    fn keys_have_file_names_of_their_own_that_every_file_system_takes() {
        assert_eq!(file_name("env:/a/s.tflock"), "env%3A%2Fa%2Fs.tflock");
        assert_eq!(file_name("A"), "%41");
        assert_eq!(file_name("../x"), "%2E.%2Fx");
        let long = "k".repeat(1024);
        assert!(file_name(&long).len() < 255);
        assert_ne!(file_name(&long), file_name(&"k".repeat(1023)));
        for key in [
            "k".to_owned(),
            "~".to_owned(),
            "/".repeat(60),
            "k".repeat(240),
            long,
        ] {
            let version = Version {
                id: "0".repeat(32),
                order: u64::MAX,
                object: Arc::new(plain_object(&key, Bytes::new())),
            };
            assert!(version_name(&version).len() < 255, "{key}");
        }
    }
}
