//! The directories that entries are made in: found by descriptor from the root on, and for an applied layer made where
//! they are missing.

use super::{Form, Result, Stop, Unpacker, attributes, inode, names, open_directory, system, times};
use crate::resolve::{Dir, Missing};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Gid, Mode, OFlags, Stat, Uid, fstat, mkdirat, openat};
use rustix::io::Errno;
use std::ffi::CString;

/// The directory of the last entry, which often is that of the next.
pub(super) struct Parent {
    pub(super) path: Vec<u8>,
    pub(super) fd: OwnedFd,
    /// What is made in it gets its group.
    pub(super) sets_group: bool,
}

impl Unpacker<'_> {
    /// The directory at a path. It is taken out of the cache: whoever is done with it may put it back. With `make` an
    /// applied layer gets it where it is missing.
    pub(super) fn parent(&mut self, path: &[u8], make: bool) -> Result<Parent> {
        if let Some(parent) = self.parent.take_if(|parent| parent.path == path) {
            return Ok(parent);
        }
        let above = |errno| system("open the directory above", errno);
        let fd = match self.resolve_directory(path) {
            Ok(found) => Ok(found),
            Err(Errno::NOENT | Errno::NOTDIR) if self.form != Form::Applied => return Err(Stop::Depends),
            Err(Errno::NOENT | Errno::NOTDIR) if make => {
                self.make_directories(path)?;
                self.resolve_directory(path)
            }
            Err(errno) => Err(errno),
        };
        let (fd, stat) = fd.map_err(above)?;
        if self.form == Form::Applied || self.times.spilled {
            self.keep_times_of(&fd, &stat, path);
        }
        if self.form == Form::Applied {
            self.own_above(&fd)?;
        }
        Ok(Parent { path: path.to_vec(), fd, sets_group: stat.st_mode & 0o2000 != 0 })
    }

    /// The directory at a path from the root, links followed; ENOTDIR if it is something else.
    pub(super) fn resolve_directory(&self, path: &[u8]) -> rustix::io::Result<(OwnedFd, Stat)> {
        let c_path = CString::new(if path.is_empty() { b"/" } else { path }).map_err(|_| Errno::INVAL)?;
        let fd = self.root.resolve(&c_path)?;
        let stat = fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok((fd, stat)),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Makes all directories of a path that are missing. What is there and no directory gives way to one, which has
    /// its owner, mode and time if it is the last.
    fn make_directories(&mut self, path: &[u8]) -> Result<()> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        self.keep_times(b"")?;
        for end in ends.chain([path.len()]) {
            let part = &path[..end];
            match self.resolve_directory(part) {
                Ok((fd, stat)) => self.keep_times_of(&fd, &stat, part),
                Err(Errno::NOENT) => {
                    let c_part = CString::new(part).map_err(|_| system("make a directory above", Errno::INVAL))?;
                    let before = self.root.made();
                    self.root
                        .resolve_or_create(&c_part, Missing::Directory)
                        .map_err(|errno| system("make a directory above", errno))?;
                    // A link to nothing may have led through many.
                    self.pay(4096 * (self.root.made() - before))?;
                }
                Err(Errno::NOTDIR) => self.make_way(part, end == path.len())?,
                Err(errno) => return Err(system("open a directory above", errno)),
            }
        }
        Ok(())
    }

    fn make_way(&mut self, path: &[u8], last: bool) -> Result<()> {
        let make = |errno| system("make a directory in place of what is there", errno);
        let c_path = CString::new(path).map_err(|_| make(Errno::INVAL))?;
        let old = self.root.resolve(&c_path).map_err(make)?;
        let stat = fstat(&old).map_err(make)?;
        // Where it really is, since links may have led there.
        let real = real_path(&self.root, old.as_fd()).ok_or_else(|| make(Errno::NOTDIR))?;
        let (parent, name) = names::split(&real).ok_or_else(|| make(Errno::NOTDIR))?;
        self.keep_times(&parent)?;
        let (dir, _) = self.resolve_directory(&parent).map_err(make)?;
        self.remove(dir.as_fd(), &name)?;
        self.pay(4096)?;
        mkdirat(&dir, &*name, Mode::from_raw_mode(0o755)).map_err(make)?;
        if last {
            let fd = open_directory(dir.as_fd(), &name).map_err(make)?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            rustix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(make)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(make)?;
            attributes::copy_xattrs(old.as_fd(), fd.as_fd()).map_err(make)?;
            self.times.set(real, inode(fd.as_fd()).map_err(make)?, times::of(&stat));
        }
        Ok(())
    }

    pub(super) fn keep_times(&mut self, path: &[u8]) -> Result<()> {
        let (fd, stat) = self.resolve_directory(path).map_err(|errno| system("open a directory above", errno))?;
        self.keep_times_of(&fd, &stat, path);
        Ok(())
    }

    pub(super) fn keep_times_of(&mut self, fd: &OwnedFd, stat: &Stat, path: &[u8]) {
        let real = || real_path(&self.root, fd.as_fd()).unwrap_or_else(|| path.to_vec());
        self.times.keep(stat, real);
    }

    /// A directory and all above it are the layer's own.
    fn own_above(&mut self, fd: &OwnedFd) -> Result<()> {
        let up = |errno| system("open a directory above", errno);
        let mut here = fd.try_clone().map_err(|_| up(Errno::MFILE))?;
        loop {
            let inode = inode(here.as_fd()).map_err(up)?;
            if !self.own.insert(inode) || inode == self.root_inode {
                return Ok(());
            }
            here = openat(&here, c"..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(up)?;
        }
    }
}

/// The path of what is open, from the root on and without links; `None` if it is not below the root.
pub(super) fn real_path(root: &Dir, fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let path = |fd: BorrowedFd<'_>| {
        let link = crate::sys::FdPath::new(fd);
        rustix::fs::readlink(link.as_c_str(), Vec::new()).ok().map(CString::into_bytes)
    };
    let (root, path) = (path(root.fd.as_fd())?, path(fd)?);
    let rest = path.strip_prefix(root.strip_suffix(b"/").unwrap_or(&root))?;
    match rest {
        [] => Some(Vec::new()),
        [b'/', rest @ ..] => Some(rest.to_vec()),
        _ => None,
    }
}
