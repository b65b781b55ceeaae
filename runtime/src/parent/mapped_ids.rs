//! User namespaces that are made for their id mappings alone: what MOUNT_ATTR_IDMAP of mount_setattr(2) takes.

use super::id_map;
use crate::child::Entry;
use crate::error::{Context, Result};
use crate::plan::{IdMaps, IdSource};
use crate::sync::Channel;
use crate::sys::{self, CloneArgs, Cloned};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// One descriptor for each.
pub(crate) fn open(sources: &[IdSource], entries: &[Entry]) -> Result<Vec<OwnedFd>> {
    let one = |source: &IdSource| match source {
        IdSource::Maps(maps, owner) => make(maps, owner),
        IdSource::Joined => {
            let user = entries.iter().find(|entry| entry.kind == libc::CLONE_NEWUSER);
            let fd = user.map_or(Err(Errno::BADF), |entry| fcntl_dupfd_cloexec(&entry.fd, 3));
            fd.context(|| "keep the user namespace".to_owned())
        }
    };
    sources.iter().map(one).collect()
}

/// A namespace needs a process to be born with; after that its descriptor keeps it.
fn make(maps: &IdMaps, owner: &str) -> Result<OwnedFd> {
    let (ours, theirs) = Channel::pair().context(|| "make a socket pair".to_owned())?;
    let args = CloneArgs { flags: libc::CLONE_NEWUSER as u64, exit_signal: libc::SIGCHLD, cgroup: None };
    match sys::clone(&args).context(|| format!("{owner}: make a user namespace"))? {
        Cloned::Child { .. } => {
            // It ends with its parent, even one that was killed.
            if sys::close_all_but(&[theirs.fd().as_raw_fd()]).is_ok() {
                theirs.receive().ok();
            }
            sys::exit_now(0)
        }
        Cloned::Parent { pid, pidfd, .. } => {
            let path = format!("/proc/{pid}/ns/user");
            let opened = id_map::write_both(pid, maps, owner).and_then(|()| {
                openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(|| format!("open {path}"))
            });
            drop((ours, theirs));
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)).ok();
            opened
        }
    }
}
