//! Times of directories, which change whenever something is made in them, and so are set when all is done.

use super::{Inode, Result, names, system};
use crate::image::tar::Time;
use crate::resolve::Dir;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Stat, Timespec, Timestamps, UTIME_OMIT, statat, utimensat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CString;

/// By inode, so that a directory which is gone in the meantime, or has two names, has no false time set.
#[derive(Default)]
pub(super) struct Times(HashMap<Inode, (Vec<u8>, Timestamps)>);

impl Times {
    /// What the layer says of a directory.
    pub(super) fn set(&mut self, path: Vec<u8>, inode: Inode, times: Timestamps) {
        self.0.insert(inode, (path, times));
    }

    /// A directory of which the layer says nothing keeps the time it has.
    pub(super) fn keep(&mut self, path: &[u8], stat: &Stat) {
        self.0.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| (path.to_vec(), of(stat)));
    }

    pub(super) fn apply(&self, root: &Dir) -> Result<()> {
        for (inode, (path, times)) in &self.0 {
            let (parent, name) = match names::split(path) {
                Some((parent, name)) => (parent, name),
                None => (Vec::new(), c".".to_owned()),
            };
            let parent = CString::new(if parent.is_empty() { b"/".to_vec() } else { parent });
            let Ok(dir) = root.resolve(&parent.map_err(|_| system("open", Errno::INVAL))?) else { continue };
            let there = statat(&dir, &*name, AtFlags::SYMLINK_NOFOLLOW);
            if there.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == *inode) {
                utimensat(&dir, &*name, times, AtFlags::SYMLINK_NOFOLLOW)
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
