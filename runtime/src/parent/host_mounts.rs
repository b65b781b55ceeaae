//! Mounts of a container without a mount namespace: they are the host's, on and below the container's root, and go with
//! the container. The root was bound to itself first, so that detaching that one mount takes all of them.

use crate::error::{Context, Result, bad};
use crate::plan::Plan;
use crate::state::{HostMounts, StateRoot};
use rustix::fs::{AtFlags, CWD, StatxFlags, stat, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use std::path::Path;

/// As it is before anything is mounted; None if nothing will be.
pub(crate) fn before(plan: &Plan) -> Result<Option<HostMounts>> {
    if !plan.root.mounts_on_host {
        return Ok(None);
    }
    let path = plan.root.path.to_string();
    let below = mount_id(&path).context(|| format!("statx {path}"))?;
    Ok(Some(HostMounts { namespace: own_namespace()?, below, own: None }))
}

/// Two such containers on one root, or on one inside the other, could not be told apart later.
pub(crate) fn check_alone(root: &StateRoot, plan: &Plan) -> Result<()> {
    let path = plan.root.path.to_string();
    for id in root.names()?.iter().filter(|id| **id != plan.id) {
        let Some(dir) = root.find(id)? else { continue };
        let Some(text) = dir.read()? else { continue };
        let record = dir.parse(&text)?;
        let theirs = Path::new(&*record.rootfs);
        if record.host_mounts.is_some() && (theirs.starts_with(&path) || Path::new(&path).starts_with(theirs)) {
            return Err(bad("root.path", format_args!("{path:?} has mounts of container {id} on the host")));
        }
    }
    Ok(())
}

/// The same with the root's own mount, which is the topmost there now.
pub(crate) fn made(path: &str, mounts: HostMounts) -> Result<HostMounts> {
    let own = mount_id(path).context(|| format!("statx {path}"))?;
    Ok(HostMounts { own: Some(own), ..mounts })
}

/// Takes off what the container has mounted on its root, and nobody else's mount.
pub(crate) fn remove(path: &str, mounts: &HostMounts) -> Result<()> {
    if own_namespace()? != mounts.namespace {
        log::warn!("{path} has mounts in another mount namespace, which stay");
        return Ok(());
    }
    let top = match mount_id(path) {
        Ok(id) if id == mounts.below => return Ok(()),
        Ok(id) => id,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno).context(|| format!("statx {path}")),
    };
    // A creation that was cut short does not know its own: then it is the first one there.
    if mounts.own.is_some_and(|own| own != top) {
        log::warn!("{path} has a mount of somebody else's on top, so that the container's stay");
        return Ok(());
    }
    match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // What was there before is gone, and so is ours.
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        done => done.context(|| format!("unmount {path}")),
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
