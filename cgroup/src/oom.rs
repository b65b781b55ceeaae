//! Being told when the kernel kills a process of a container for want of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{CWD, Mode, OFlags, inotify, openat};
use rustix::io::{Errno, read};

use crate::Cgroup;
use crate::error::{Context, Error};
use crate::files::write_text;

/// Becomes readable when there may have been such a kill: on cgroup v2 by inotify(7) of memory.events, on v1 by the
/// eventfd(2) that memory.oom_control signals: not for a limit of a cgroup below the container's, there.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    /// Of cgroup v2, where the kernel counts before it tells.
    seen: Option<u64>,
}

impl OomWatch {
    /// None where memory is not counted.
    pub(crate) fn new(cgroup: &Cgroup) -> Result<Option<OomWatch>, Error> {
        let v1 = cgroup.place.v1.iter().find(|directory| directory.has("memory"));
        let (fd, seen) = match (v1, &cgroup.place.unified) {
            (Some(directory), _) => {
                let path = directory.file("memory.oom_control");
                let control =
                    openat(CWD, &*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", &path)?;
                let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("eventfd for", &path)?;
                let numbers = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
                let path = directory.file("cgroup.event_control");
                write_text(&path, &numbers).context(&format!("write {numbers:?} to"), &path)?;
                (fd, None)
            }
            (None, Some(directory)) => {
                let path = directory.file("memory.events");
                let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
                let fd = inotify::init(flags).context("inotify for", &path)?;
                match inotify::add_watch(&fd, &*path, inotify::WatchFlags::MODIFY) {
                    Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
                    watched => watched.context("watch", &path)?,
                };
                (fd, Some(cgroup.oom_kills()?))
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(OomWatch { fd, seen }))
    }

    /// To wait by, for POLLIN.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// How many processes were killed since the last time. Never waits.
    ///
    /// # Errors
    /// The kernel's count cannot be read.
    pub fn new_kills(&mut self, cgroup: &Cgroup) -> Result<u64, Error> {
        let Some(seen) = &mut self.seen else {
            // cgroup v1 tells first, and counts then; and it tells of the end of the cgroup too.
            let mut count = [0u8; 8];
            let told = read(&self.fd, &mut count).map_or(0, |_| u64::from_ne_bytes(count));
            let there = told > 0 && cgroup.place.v1.iter().any(|it| it.has("memory") && it.exists().unwrap_or(false));
            return Ok(if there { told } else { 0 });
        };
        let mut buffer = [0u8; 4096];
        while read(&self.fd, &mut buffer).is_ok_and(|length| length == buffer.len()) {}
        let now = cgroup.oom_kills()?;
        let new = now.saturating_sub(*seen);
        *seen = now.max(*seen);
        Ok(new)
    }
}
