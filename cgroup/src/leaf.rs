//! A cgroup below a container's for its first process, so that the container's own can hand its controllers down: in
//! cgroup v2 one with processes cannot.

use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::{Errno, write};

use crate::error::{Context, Error};
use crate::{Cgroup, controllers, delegate};

/// See [`Cgroup::settle`].
pub(crate) fn settle(cgroup: &Cgroup, pid: i32, owner: Option<u32>) -> Result<(), Error> {
    let (Some(fd), Some(directory)) = (cgroup.unified_fd(), &cgroup.place.unified) else { return Ok(()) };
    if let Some(owner) = owner {
        delegate::delegate(fd, &directory.full(), owner)?;
    }
    let Some(name) = &cgroup.place.leaf else { return Ok(()) };
    let path = directory.file(name);
    match mkdirat(fd, &**name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).context("mkdir", &path),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let leaf = openat(fd, &**name, flags, Mode::empty()).context("open", &path)?;
    let procs = openat(&leaf, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let written = procs.and_then(|procs| write(&procs, pid.to_string().as_bytes()));
    written.context(&format!("write {pid} to"), &format!("{path}/cgroup.procs"))?;
    controllers::hand_down_all(directory)?;
    match owner {
        Some(owner) => delegate::delegate(leaf.as_fd(), &path, owner),
        None => Ok(()),
    }
}
