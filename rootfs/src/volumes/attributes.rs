//! What a file is apart from its content: owner, extended attributes, mode, times. And labels of SELinux.

use crate::sys::FdPath;
use crate::tree::{Step, at};
use crate::xattrs;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, chmod, chownat, utimensat};
use rustix::io::Result;

/// Gives a file, of any kind and opened in any way, what another has; `stat` is that of the other, taken before it was
/// read. Says how many bytes extended attributes have.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Step<u64> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    at("give the owner to", chownat(to, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH))?;
    // Capabilities of a file are lost when its owner changes, and an access list changes its mode.
    let bytes = copy_xattrs(from, to)?;
    let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    if !link {
        // By its path in /proc, which leads to the very file: fchmod(2) takes no descriptor opened with O_PATH.
        at("set the mode of", chmod(FdPath::new(to).as_c_str(), Mode::from_raw_mode(stat.st_mode & 0o7777)))?;
    }
    at("set the times of", set_times(to, stat)).map(|()| bytes)
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

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Step<u64> {
    let mut bytes = 0;
    let names = at("list the attributes of", xattrs::names(from))?;
    for name in names.iter().filter(|name| is_copied(name.to_bytes())) {
        let what = |verb: &str| format!("{verb} the attribute {} of", name.to_string_lossy());
        let value = xattrs::value(from, name).map_err(|errno| (what("read"), errno))?;
        xattrs::set(to, name, &value).map_err(|errno| (what("set"), errno))?;
        bytes += value.len() as u64;
    }
    Ok(bytes)
}

/// overlay's own say where layers are. Labels of security modules are the host's to give, but capabilities are the file's.
fn is_copied(name: &[u8]) -> bool {
    match name.strip_prefix(b"security.") {
        Some(security) => security == b"capability",
        None => !xattrs::is_overlays(name),
    }
}
