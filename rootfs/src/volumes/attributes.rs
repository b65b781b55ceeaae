//! What a file is apart from its content: owner, extended attributes, mode, times. And labels of SELinux.

use crate::sys::FdPath;
use crate::tree::{Step, at};
use rustix::fd::BorrowedFd;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat, getxattr,
    getxattr_query, listxattr, listxattr_query, setxattr, utimensat,
};
use rustix::io::{Errno, Result};
use std::ffi::CStr;

/// A value may have grown between the question for its size and that for itself.
const MAX_TRIES: usize = 8;

/// Gives a file, of any kind and opened in any way, what another has; `stat` is that of the other, taken before it was
/// read.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Step<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    at("give the owner to", chownat(to, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH))?;
    // Capabilities of a file are lost when its owner changes, and an access list changes its mode.
    xattrs(from, to)?;
    let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    if !link {
        // By its path in /proc, which leads to the very file: fchmod(2) takes no descriptor opened with O_PATH.
        at("set the mode of", chmod(FdPath::new(to).as_c_str(), Mode::from_raw_mode(stat.st_mode & 0o7777)))?;
    }
    at("set the times of", set_times(to, stat))
}

fn set_times(to: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    };
    // With a path in /proc a link is not followed twice.
    utimensat(rustix::fs::CWD, FdPath::new(to).as_c_str(), &times, AtFlags::empty())
}

fn xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Step<()> {
    let (from, to) = (FdPath::new(from), FdPath::new(to));
    let names = match sized(|| listxattr_query(from.as_c_str()), |buffer| listxattr(from.as_c_str(), buffer)) {
        // A file system without them has none to copy.
        Err(Errno::NOTSUP) => return Ok(()),
        names => at("list the attributes of", names)?,
    };
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if !is_copied(name.to_bytes()) {
            continue;
        }
        let value = sized(|| getxattr_query(from.as_c_str(), name), |buffer| getxattr(from.as_c_str(), name, buffer));
        let what = |verb: &str| format!("{verb} the attribute {} of", String::from_utf8_lossy(name.to_bytes()));
        let value = value.map_err(|errno| (what("read"), errno))?;
        setxattr(to.as_c_str(), name, &value, XattrFlags::empty()).map_err(|errno| (what("set"), errno))?;
    }
    Ok(())
}

/// overlay's own say where layers are. Labels of security modules are the host's to give, but capabilities are the file's.
fn is_copied(name: &[u8]) -> bool {
    match name.strip_prefix(b"security.") {
        Some(security) => security == b"capability",
        None => !name.starts_with(b"trusted.overlay.") && !name.starts_with(b"user.overlay."),
    }
}

fn sized(query: impl Fn() -> Result<usize>, get: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    for _ in 0..MAX_TRIES {
        let mut buffer = vec![0; query()?];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match get(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::RANGE)
}

/// Sets an attribute of a file that was opened in any way.
pub(super) fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    setxattr(FdPath::new(file).as_c_str(), name, value, XattrFlags::empty())
}
