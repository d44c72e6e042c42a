//! Reading a file that somebody named: configuration, tokens, certificates.
//!
//! Without this a path to a device, a pipe or a disk image would hang a call or fill the memory.

use std::io::{self, Read as _};
use std::path::Path;

/// The largest file that is read or written. Bytes. AWS's own files have a few kilobytes, bundles of certificate
/// authorities a few hundred.
pub(crate) const MAX_FILE: u64 = 1 << 20;

/// The content of a regular file of up to [`MAX_FILE`] bytes.
///
/// # Errors
/// When it is larger, something else than a file, or cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a pipe waits for a writer.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = std::fs::File::open(path)?;
    let likely = usize::try_from(metadata.len().min(MAX_FILE)).unwrap_or_default();
    // One byte more, and the end is seen without growing.
    let mut bytes = Vec::with_capacity(likely + 1);
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}
