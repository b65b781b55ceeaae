//! The network namespace of a container's init, found by its pid and never taken for the host's.

use crate::error::{Context, Error, Result};
use crate::state::{Process, ProcessStat};
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};

/// A container's init and its network namespace.
pub(super) struct Sandbox {
    pub process: Process,
    pub namespace: OwnedFd,
}

/// Opens both. What a caller says may be anything.
pub(super) fn open(pid: i64) -> Result<Sandbox> {
    let refuse = |problem: &str| Error::Usage(format!("state: pid {pid} {problem}"));
    let number = i32::try_from(pid).ok().filter(|pid| *pid > 1).ok_or_else(|| refuse("is not that of a container"))?;
    let gone = || refuse("is no process, or has ended");
    let stat = ProcessStat::read(number)?.ok_or_else(gone)?;
    let process = Process::open(number, stat.start_time)?.ok_or_else(gone)?;
    let what = || format!("open /proc/{number}/ns/net");
    let open = |path: &str| openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let namespace = open(&format!("/proc/{number}/ns/net")).context(what)?;
    let own = open("/proc/self/ns/net").context(|| "open /proc/self/ns/net".to_owned())?;
    let inode = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).context(what);
    if inode(&namespace)? == inode(&own)? {
        return Err(refuse("is in the host's network namespace: linux.namespaces has no network namespace"));
    }
    // Only now is it known that the descriptor was opened while that process was there.
    match Process::open(number, stat.start_time)? {
        Some(_) => Ok(Sandbox { process, namespace }),
        None => Err(gone()),
    }
}

/// Brings up its loopback device, which not every runtime does.
pub(super) fn loopback_up(namespace: &OwnedFd) -> Result<()> {
    let what = || "bring the container's loopback device up".to_owned();
    let own = openat(CWD, "/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    sys::setns(namespace.as_fd(), libc::CLONE_NEWNET).context(what)?;
    let done = sys::loopback_up();
    // Or plugins would do in the container what is meant for the host.
    sys::setns(own.as_fd(), libc::CLONE_NEWNET).context(|| "return to the host's network namespace".to_owned())?;
    done.context(what)
}
