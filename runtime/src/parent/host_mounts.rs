//! Mounts of a container without a mount namespace: they are the host's, on and below the container's root, and go with
//! the container. The root was bound to itself first, so that detaching that one mount takes all of them.

use crate::error::{Context, Error, Result, bad};
use crate::mountinfo::{self, Mounted};
use crate::plan::Plan;
use crate::state::HostMounts;
use rootfs::plan::MountsAre;
use rustix::fs::{AtFlags, CWD, StatxFlags, stat, statx};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// As it is before anything is mounted; None if nothing will be.
pub(crate) fn before(plan: &Plan) -> Result<Option<HostMounts>> {
    if plan.root.mounts_are != MountsAre::TheHosts {
        return Ok(None);
    }
    let path = plan.root.path.to_string();
    // Those of another such container, which could not be told apart; or the bind of the root to itself would show copies
    // of them to other mount namespaces, and leave those there.
    if let Some((_, point)) =
        mounts()?.into_iter().find(|(_, point)| point.starts_with(&path) && *point != Path::new(&path))
    {
        return Err(bad(
            "root.path",
            format_args!("{path:?} needs a mount namespace, since {point:?} is mounted in it"),
        ));
    }
    let below = mount_id(&path).context(|| format!("statx {path}"))?;
    Ok(Some(HostMounts { namespace: own_namespace()?, below, own: None }))
}

/// The same with the root's own mount, which is the topmost there now.
pub(crate) fn made(path: &str, mounts: HostMounts) -> Result<HostMounts> {
    let own = mount_id(path).context(|| format!("statx {path}"))?;
    Ok(HostMounts { own: Some(own), ..mounts })
}

/// Takes off what the container has mounted on its root, and nobody else's mount.
pub(crate) fn remove(path: &str, mounted: &HostMounts) -> Result<()> {
    if own_namespace()? != mounted.namespace {
        log::warn!("{path} has mounts in another mount namespace, which stay");
        return Ok(());
    }
    let path = match mounted.own {
        // The bundle may have been renamed since.
        Some(own) => match mounts()?.into_iter().find(|(id, _)| *id == own) {
            Some((_, point)) => point,
            None => return Ok(()),
        },
        // A creation that was cut short does not know its own: it is the first one there.
        None => PathBuf::from(path),
    };
    match mount_id(&path) {
        Ok(id) if mounted.own.is_none_or(|own| own == id) => {
            if id == mounted.below {
                return Ok(());
            }
        }
        Ok(_) => {
            let problem = "a mount of somebody else's lies on those of the container";
            return Err(Error::Usage(format!("{}: {problem}", path.display())));
        }
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno).context(|| format!("statx {}", path.display())),
    }
    // What is unmounted below must not take anything along elsewhere.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(&path, private).context(|| format!("make the mounts of {} private", path.display()))?;
    match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        done => done.context(|| format!("unmount {}", path.display())),
    }
}

/// All mounts of this namespace with their ids.
fn mounts() -> Result<Vec<(u64, PathBuf)>> {
    let path = |mounted: Mounted| (mounted.id, PathBuf::from(OsString::from_vec(mounted.point)));
    Ok(mountinfo::of("self")?.into_iter().map(path).collect())
}

fn own_namespace() -> Result<u64> {
    let path = "/proc/self/ns/mnt";
    stat(path).map(|stat| stat.st_ino).context(|| format!("stat {path}"))
}

/// Of the mount that the path is on (statx(2), Linux 5.8).
fn mount_id(path: impl AsRef<Path>) -> rustix::io::Result<u64> {
    let found = statx(CWD, path.as_ref(), AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { Err(Errno::NOSYS) } else { Ok(found.stx_mnt_id) }
}
