//! Gives a container's cgroup v2 to the user of its processes, so that they may make cgroups below it.
//!
//! For a container that sees its cgroup writable, in a cgroup namespace of its own: see "Cgroup ownership" in the
//! runtime specification. On cgroup v1 that would let it raise its own limits.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Uid, chownat};
use rustix::io::Errno;

use crate::error::{Context, Error};
use crate::files::{TEXT, read_text};

/// Where the kernel, since Linux 4.15, lists the files to give away.
const LIST: &str = "/sys/kernel/cgroup/delegate";
/// The same, from before.
const FILES: &str = "cgroup.procs cgroup.subtree_control cgroup.threads";

/// Changes the owner of a cgroup's directory and of those of its files that are to be delegated.
pub(crate) fn delegate(cgroup: BorrowedFd<'_>, path: &str, uid: u32) -> Result<(), Error> {
    let mut buffer = [0; TEXT];
    let files = match read_text(LIST, &mut buffer) {
        Err(Errno::NOENT) => FILES,
        result => result.context("read", LIST)?,
    };
    let owner = Some(Uid::from_raw(uid));
    chownat(cgroup, "", owner, None, AtFlags::EMPTY_PATH).context("chown", path)?;
    for name in files.split_ascii_whitespace() {
        match chownat(cgroup, name, owner, None, AtFlags::SYMLINK_NOFOLLOW) {
            // The list is for all kinds of cgroups and all controllers.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).context("chown", &format!("{path}/{name}")),
        }
    }
    Ok(())
}
