//! The last step: the container's root becomes the process's root, and the host's goes away.

use crate::Root;
use crate::error::{Item, Result};
use crate::plan::{Enter, Propagation, PropagationKind};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use std::ffi::{CStr, CString};

impl Root<'_> {
    /// Ends in the root directory of the container.
    pub fn enter(self) -> Result<()> {
        let item = Item::Root;
        item.at("change into", fchdir(&self.dir.fd))?;
        match self.plan.enter {
            Enter::Pivot => self.pivot(item)?,
            Enter::Move => Self::move_over(item)?,
            Enter::Chroot => item.at("chroot into", chroot(c"."))?,
        }
        item.at("change into", chdir(c"/"))?;
        let wanted = self.plan.propagation;
        if self.plan.enter != Enter::Chroot && wanted != Propagation::SLAVE {
            item.at("set the propagation of", self.api.propagate_root(wanted))?;
        }
        let fresh = self.fresh.map(|(_, fd)| fd);
        [Some(self.dir.fd), self.dev, fresh].into_iter().flatten().for_each(|fd| self.api.leave(fd));
        Ok(())
    }

    /// pivot_root(2) with the old root stacked on the new one, then taken off; no directory is needed for it.
    fn pivot(&self, item: Item) -> Result<()> {
        let shared = self.plan.propagation.kind == PropagationKind::Shared;
        let old = shared.then(|| open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()));
        let old = item.at("open the host's", old.transpose())?;
        item.at("pivot_root to", pivot_root(c".", c"."))?;
        if let Some(old) = old {
            // Or the unmount would reach the host. Not from the new root on, which the old one lies on: what shares
            // its events with the host in the container keeps doing so.
            item.at("change into the old root of", fchdir(&old))?;
            item.at("cut off the host from", self.api.propagate_here(Propagation::SLAVE))?;
        }
        item.at("unmount the old root of", unmount(c".", UnmountFlags::DETACH))
    }

    /// Without pivot_root(2) the host's mounts stay below. Its /proc and /sys go, or a user namespace in the container
    /// could mount them again in full; where they cannot go they are covered.
    fn move_over(item: Item) -> Result<()> {
        for path in [c"/proc", c"/sys"] {
            match unmount(path, UnmountFlags::DETACH) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::INVAL | Errno::PERM) => {
                    let covered = crate::sys::mount(Some(c"tmpfs"), path, Some(c"tmpfs"), libc::MS_RDONLY, None);
                    item.at("cover the host's file systems under", covered)?;
                }
                Err(errno) => return item.fail("unmount the host's file systems under", errno),
            }
        }
        item.at("move over the host's root", crate::sys::mount(Some(c"."), c"/", None, libc::MS_MOVE, None))?;
        item.at("chroot into", chroot(c"."))
    }
}

/// pivot_root(2) wants the parent of the new root private: the nearest mount above the path, found by asking upwards,
/// since only a mount point can be changed.
pub(crate) fn make_parent_private(path: &CStr) -> Result<()> {
    let mut path = path.to_bytes().to_vec();
    loop {
        let text = CString::new(if path.is_empty() { b"/".to_vec() } else { path.clone() }).unwrap_or_default();
        match crate::sys::mount(None, &text, None, libc::MS_PRIVATE, None) {
            Err(Errno::INVAL) if !path.is_empty() => {
                let cut = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                path.truncate(cut);
            }
            done => return Item::Root.at("make the parent mount private of", done),
        }
    }
}
