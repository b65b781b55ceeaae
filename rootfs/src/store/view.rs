//! What an overlay of layers would show, as far as it takes to know whether a layer's marks have something to hide.

use super::Xattrs;
use super::unpack::{hides, is_opaque};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, openat, statat};
use std::ffi::CString;
use std::path::PathBuf;

/// What one layer says of a path.
enum Says {
    /// Nothing; layers below decide.
    Nothing,
    /// A directory, which may have more below.
    Directory,
    /// That no layer below counts.
    Hidden,
}

/// Whether the directory `path` of `layer` is one in `lowers` too (topmost last), so that overlay merges the two. In
/// one that it does not merge, marks would be seen.
pub(super) fn is_merged(layer: &PathBuf, lowers: &[PathBuf], path: &str, xattrs: Xattrs) -> bool {
    if path.is_empty() {
        return !lowers.is_empty();
    }
    // Opaque on the way: nothing below counts.
    if !matches!(says(layer, path, xattrs), Some((Says::Directory, false))) {
        return false;
    }
    for lower in lowers.iter().rev() {
        match says(lower, path, xattrs) {
            Some((Says::Directory, _)) => return true,
            Some((Says::Nothing, false)) => {}
            Some((Says::Nothing, true) | (Says::Hidden, _)) | None => return false,
        }
    }
    false
}

/// Also whether it hides what is below, by a directory on the way that is opaque. `None` if it cannot be read.
fn says(layer: &PathBuf, path: &str, xattrs: Xattrs) -> Option<(Says, bool)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here: OwnedFd = open(layer, flags, Mode::empty()).ok()?;
    let mut opaque = false;
    for part in path.split('/') {
        let name = CString::new(part).ok()?;
        let stat = match statat(&here, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => return Some((Says::Nothing, opaque)),
            stat => stat.ok()?,
        };
        if hides(rustix::fd::AsFd::as_fd(&here), &name) || FileType::from_raw_mode(stat.st_mode) != FileType::Directory
        {
            return Some((Says::Hidden, true));
        }
        here = openat(&here, &*name, flags, Mode::empty()).ok()?;
        opaque |= is_opaque(rustix::fd::AsFd::as_fd(&here), xattrs);
    }
    Some((Says::Directory, opaque))
}
