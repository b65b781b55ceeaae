//! Times of directories, which change whenever something is made in them, and so are set when all is done.

use super::{Inode, Result, Unpacker, system};
use crate::image::tar::Time;
use crate::resolve::Dir;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, Stat, Timespec, Timestamps, UTIME_OMIT, fstat, utimensat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CString;

/// Bytes of paths and what comes with them that are remembered: more than any but a hostile layer takes.
const MOST: usize = if cfg!(test) { 4096 } else { 32 << 20 };
/// What a directory takes beside its path.
const EACH: usize = 128;

/// By inode, so that a directory which is gone in the meantime has no false time set. The paths have no links in them,
/// which might be gone too.
#[derive(Default)]
pub(super) struct Times {
    by_inode: HashMap<Inode, (Vec<u8>, Timestamps)>,
    bytes: usize,
    /// There were too many to remember: whatever changes a directory has to have its time kept.
    pub(super) spilled: bool,
}

impl Unpacker<'_> {
    /// Sets the times so far where they are too many to remember.
    pub(super) fn spill_times(&mut self) -> Result<()> {
        if self.times.bytes < MOST {
            return Ok(());
        }
        self.times.apply(&self.root)?;
        self.times = Times { spilled: true, ..Times::default() };
        // Its time is no longer remembered.
        self.parent = None;
        Ok(())
    }
}

impl Times {
    /// What the layer says of a directory.
    pub(super) fn set(&mut self, path: Vec<u8>, inode: Inode, times: Timestamps) {
        self.bytes += path.len() + EACH;
        if let Some((old, _)) = self.by_inode.insert(inode, (path, times)) {
            self.bytes -= old.len() + EACH;
        }
    }

    /// A directory of which the layer says nothing keeps the time it has.
    pub(super) fn keep(&mut self, stat: &Stat, path: impl FnOnce() -> Vec<u8>) {
        let inode = (stat.st_dev, stat.st_ino);
        if !self.by_inode.contains_key(&inode) {
            self.set(path(), inode, of(stat));
        }
    }

    pub(super) fn apply(&self, root: &Dir) -> Result<()> {
        for (inode, (path, times)) in &self.by_inode {
            let path = if path.is_empty() { b"/" } else { path.as_slice() };
            let c_path = CString::new(path).map_err(|_| system("open", Errno::INVAL))?;
            let Ok(dir) = root.resolve(&c_path) else { continue };
            // The inode of a directory that is gone may be that of something else by now.
            let is_it = |stat: Stat| {
                (stat.st_dev, stat.st_ino) == *inode && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            };
            if fstat(&dir).is_ok_and(is_it) {
                utimensat(&dir, c".", times, AtFlags::empty())
                    .map_err(|errno| system("set the times of a directory", errno).named(path))?;
            }
        }
        Ok(())
    }
}

/// The modification time that it had; the other stays as it is.
pub(super) fn of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

pub(super) fn restore(dir: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
    utimensat(dir.as_fd(), c".", &of(stat), AtFlags::SYMLINK_NOFOLLOW)
}

/// As an archive says them: without a time of access that is the other too.
pub(super) fn timestamps(mtime: Time, atime: Option<Time>) -> Timestamps {
    let spec = |time: Time| Timespec { tv_sec: time.seconds as _, tv_nsec: time.nanoseconds as _ };
    Timestamps { last_access: spec(atime.unwrap_or(mtime)), last_modification: spec(mtime) }
}
