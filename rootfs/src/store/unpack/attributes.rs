//! Owner, mode, extended attributes and times of what has been made.

use super::super::Progress;
use super::{Result, Unpacker, inode, system, times};
use crate::image::tar::{Entry, Kind};
use crate::sys::FdPath;
use crate::xattrs;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Uid, XattrFlags, chmodat, chownat, fchmod, fchown, fremovexattr, fsetxattr,
    lsetxattr, utimensat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Of the host that packed the layer, and no other.
const IGNORED: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];

/// What could not be kept, each kind told once.
pub(in crate::store) struct Warnings<'a> {
    progress: &'a dyn Progress,
    /// Who unpacks may not do all that root may, so that what is not permitted is left out.
    lenient: bool,
    owner: AtomicBool,
    xattr: AtomicBool,
    device: AtomicBool,
    forged: AtomicBool,
}

impl<'a> Warnings<'a> {
    pub(in crate::store) fn new(progress: &'a dyn Progress, lenient: bool) -> Warnings<'a> {
        let no = || AtomicBool::new(false);
        Warnings { progress, lenient, owner: no(), xattr: no(), device: no(), forged: no() }
    }

    fn once(&self, which: &AtomicBool, entry: &Entry, why: &str) {
        if !which.swap(true, Ordering::Relaxed) {
            let name: String = String::from_utf8_lossy(&entry.path).chars().take(200).collect();
            self.progress.warning(&format!("{name:?}: {why}; this is said once"));
        }
    }

    /// The owner could not be given: an error, or left out with a warning.
    fn owner(&self, entry: &Entry, errno: Errno) -> Result<()> {
        if !self.lenient || !matches!(errno, Errno::PERM | Errno::INVAL) {
            return Err(system("set the owner", errno));
        }
        let why = format!("its owner {}:{} is not one of this user namespace's, and is left out", entry.uid, entry.gid);
        self.once(&self.owner, entry, &why);
        Ok(())
    }

    fn xattr(&self, entry: &Entry, name: &CStr, errno: Errno) -> Result<()> {
        let left_out = match errno {
            Errno::OPNOTSUPP => true,
            Errno::PERM | Errno::INVAL | Errno::ACCESS => self.lenient,
            _ => false,
        };
        let name: String = name.to_string_lossy().chars().take(100).collect();
        if !left_out {
            return Err(system(&format!("set the extended attribute {name:?}"), errno));
        }
        let why = format!("the extended attribute {name:?} is left out: {}", io::Error::from(errno));
        self.once(&self.xattr, entry, &why);
        Ok(())
    }

    /// A device may not be made; false if that is an error.
    pub(super) fn device(&self, entry: &Entry, errno: Errno) -> bool {
        let left_out = self.lenient && matches!(errno, Errno::PERM | Errno::ACCESS);
        if left_out {
            self.once(&self.device, entry, "devices cannot be made without being root of the host, and are left out");
        }
        left_out
    }

    pub(super) fn forged_whiteout(&self, entry: &Entry) {
        self.once(&self.forged, entry, "the device 0:0 would be a whiteout, and is left out");
    }
}

/// A character device 0:0 is how overlay hides a name.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

impl Unpacker<'_> {
    pub(super) fn directory_attributes(
        &mut self,
        fd: BorrowedFd<'_>,
        entry: &Entry,
        parent: &[u8],
        name: &CStr,
        existed: bool,
    ) -> Result<()> {
        if existed {
            self.clear_xattrs(fd)?;
        }
        self.file_attributes(fd, entry, true)?;
        let inode = inode(fd).map_err(|errno| system("stat", errno))?;
        let path = super::real_path(&self.root, fd).unwrap_or_else(|| match name.to_bytes() {
            b"." => Vec::new(),
            name => [parent, b"/", name].concat(),
        });
        self.times.set(path, inode, times::timestamps(entry.mtime, entry.atime));
        Ok(())
    }

    /// All but the times, of an open file or directory. With `owner` it may belong to somebody else than who made it.
    pub(super) fn file_attributes(&self, fd: BorrowedFd<'_>, entry: &Entry, owner: bool) -> Result<()> {
        if owner && let Err(errno) = fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))) {
            self.warnings.owner(entry, errno)?;
        }
        // After the owner, which takes set-id bits away, as it does with capabilities.
        fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(|errno| system("set the mode", errno))?;
        self.xattrs(entry, |name, value| fsetxattr(fd, name, value, XattrFlags::empty()))
    }

    /// What is neither a file nor a directory.
    pub(super) fn node_attributes(&self, dir: BorrowedFd<'_>, name: &CStr, entry: &Entry) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        if let Err(errno) = chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            self.warnings.owner(entry, errno)?;
        }
        if entry.kind != Kind::Symlink {
            // Just made, so that no link is followed.
            let mode = Mode::from_raw_mode(entry.mode);
            chmodat(dir, name, mode, AtFlags::empty()).map_err(|errno| system("set the mode", errno))?;
        }
        if !entry.xattrs.is_empty() {
            let path = [FdPath::new(dir.as_fd()).as_c_str().to_bytes(), b"/", name.to_bytes()].concat();
            let path = CString::new(path).map_err(|_| system("set an extended attribute", Errno::INVAL))?;
            self.xattrs(entry, |name, value| lsetxattr(&*path, name, value, XattrFlags::empty()))?;
        }
        let times = times::timestamps(entry.mtime, entry.atime);
        utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| system("set the times", errno))
    }

    fn xattrs(&self, entry: &Entry, set: impl Fn(&CStr, &[u8]) -> rustix::io::Result<()>) -> Result<()> {
        for (name, value) in &entry.xattrs {
            if xattrs::is_overlays(name) || IGNORED.contains(&name.as_slice()) {
                continue;
            }
            let name = CString::new(name.as_slice()).map_err(|_| system("set an extended attribute", Errno::INVAL))?;
            if let Err(errno) = set(&name, value) {
                self.warnings.xattr(entry, &name, errno)?;
            }
        }
        Ok(())
    }

    /// An entry for a directory that is there replaces its attributes.
    fn clear_xattrs(&self, fd: BorrowedFd<'_>) -> Result<()> {
        let names = xattrs::names(fd).map_err(|errno| system("list the extended attributes", errno))?;
        for name in names {
            if xattrs::is_overlays(name.to_bytes()) || IGNORED.contains(&name.to_bytes()) {
                continue;
            }
            match fremovexattr(fd, &*name) {
                Ok(()) | Err(Errno::NODATA | Errno::PERM | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(system("remove an extended attribute", errno)),
            }
        }
        Ok(())
    }

    /// Whether a file of root's that root has made in this directory is root's already.
    pub(super) fn is_own(&self, directory_sets_group: bool, entry: &Entry) -> bool {
        entry.uid == 0
            && entry.gid == 0
            && !directory_sets_group
            && rustix::process::geteuid().is_root()
            && rustix::process::getegid().is_root()
    }
}

/// Gives a directory the extended attributes of something else, as far as they are not overlay's and may be set.
pub(in crate::store) fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    for name in xattrs::names(from)?.into_iter().filter(|name| !xattrs::is_overlays(name.to_bytes())) {
        if let Ok(value) = xattrs::value(from, &name) {
            match xattrs::set(to, &name, &value) {
                Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}
