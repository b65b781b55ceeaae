//! Mounts of a container without a mount namespace: they are the host's, on and below the container's root, and go with
//! the container. The root was bound to itself first, so that detaching that one mount takes all of them.

use crate::error::{Context, Result};
use crate::plan::Plan;
use crate::state::HostMounts;
use rustix::fs::{AtFlags, CWD, StatxFlags, stat, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// As it is before anything is mounted; None if nothing will be.
pub(crate) fn before(plan: &Plan) -> Result<Option<HostMounts>> {
    if !plan.root.mounts_on_host {
        return Ok(None);
    }
    let path = plan.root.path.to_string();
    let below = mount_id(&path).context(|| format!("statx {path}"))?;
    Ok(Some(HostMounts { namespace: own_namespace()?, below }))
}

/// Takes off what was mounted on the root since, the topmost first.
pub(crate) fn remove(path: &str, mounts: &HostMounts) -> Result<()> {
    if own_namespace()? != mounts.namespace {
        log::warn!("{path} has mounts in another mount namespace, which stay");
        return Ok(());
    }
    loop {
        match mount_id(path) {
            Ok(id) if id != mounts.below => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno).context(|| format!("statx {path}")),
        }
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Not a mount point: what was there before is gone, and so is ours.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            done => done.context(|| format!("unmount {path}"))?,
        }
    }
}

fn own_namespace() -> Result<u64> {
    let path = "/proc/self/ns/mnt";
    stat(path).map(|stat| stat.st_ino).context(|| format!("stat {path}"))
}

/// Of the mount that the path is on (statx(2), Linux 5.8).
fn mount_id(path: &str) -> rustix::io::Result<u64> {
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { Err(Errno::NOSYS) } else { Ok(found.stx_mnt_id) }
}
