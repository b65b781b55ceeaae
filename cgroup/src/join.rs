//! Moves a process into a container's cgroup.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, write};

use crate::error::{Context, Error};
use crate::own;
use crate::place::Place;

/// Writes the pid to every cgroup.procs, to that of cgroup v2 only if told to. All are opened first: the first of
/// several writes in quick succession pays for a grace period of the kernel's (milliseconds), the others do not.
pub(crate) fn join(place: &Place, pid: i32, unified: bool) -> Result<(), Error> {
    if pid <= 0 {
        // To the kernel 0 is the writer itself.
        return Err(Errno::SRCH).context("join", &format!("process {pid}"));
    }
    // systemd has moved it in most hierarchies, and each write waits.
    let there = if place.is_scope() && !place.v1.is_empty() { own::memberships(&pid.to_string())? } else { Vec::new() };
    let mut files: Vec<(String, OwnedFd)> = Vec::with_capacity(place.v1.len() + 1);
    for directory in place.directories() {
        if directory.controllers.is_empty() && !unified {
            continue;
        }
        if there.iter().any(|line| line.controllers == directory.controllers && line.path == directory.path) {
            continue;
        }
        let path = directory.file("cgroup.procs");
        let file = openat(CWD, &*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).context("open", &path)?;
        files.push((path, file));
    }
    let text = pid.to_string();
    for (path, file) in &files {
        match write(file, text.as_bytes()) {
            Ok(_) => {}
            Err(Errno::OPNOTSUPP) => {
                return Err(Error::Threaded { path: path.trim_end_matches("/cgroup.procs").into() });
            }
            Err(errno) => return Err(errno).context(&format!("write {text:?} to"), path),
        }
    }
    Ok(())
}
