//! Volumes that go.
//!
//! A volume is renamed while all others are kept from making and removing, and its content is removed after that: what
//! is big is nobody's to wait for.

use super::{ANONYMOUS, Context, Error, Locked, Result, Volumes, check_name, names, open_record};
use crate::tree;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FlockOperation, OFlags, flock, renameat};
use rustix::io::Errno;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::CString;

/// The bundles that there are, by the names of the volumes they mount.
pub type Uses = BTreeMap<String, Vec<String>>;

/// What [`Volumes::prune`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// The volumes that are gone, by name.
    pub removed: Vec<String>,
    /// What they took on disk, in bytes.
    pub bytes: u64,
    /// Those that could not be removed.
    #[serde(skip)]
    pub failed: Vec<Error>,
}

impl Volumes {
    /// Removes a volume with all that is in it. `uses` is asked while nobody can make a bundle with this volume.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::NoVolume`]. If what is in it cannot be removed it is gone all the same, and the next
    /// [`Volumes::prune`] tries again.
    pub fn remove(&self, name: &str, uses: impl FnOnce() -> Result<Uses>) -> Result<()> {
        check_name(name)?;
        self.dir()?.ok_or_else(|| Error::NoVolume(name.to_owned()))?;
        let locked = self.lock()?;
        let volume = self.open_volume(locked.dir.as_fd(), name)?;
        let old = locked.take_away(name, volume, &uses()?)?;
        let dir = locked.dir;
        // All others may go on; the lock was this description's.
        flock(&dir, FlockOperation::Unlock).context(|| format!("unlock {}", self.path))?;
        self.clear(dir.as_fd(), old).map(drop)
    }

    /// Removes those of the volumes that were made for one bundle and that no bundle mounts any more. For who removes a
    /// bundle, once it is no longer registered.
    ///
    /// # Errors
    /// The volumes cannot be locked or listed; those that cannot be removed are in [`Pruned::failed`].
    pub fn remove_anonymous(&self, names: &[&str], uses: impl FnOnce() -> Result<Uses>) -> Result<Pruned> {
        self.remove_where(uses, |volumes, dir, name| names.contains(&name) && volumes.is_anonymous(dir, name))
    }

    /// Removes the volumes without a name of their own that no bundle mounts, or `all` that none does, and what removals
    /// that were interrupted have left.
    ///
    /// # Errors
    /// As [`Volumes::remove_anonymous`].
    pub fn prune(&self, all: bool, uses: impl FnOnce() -> Result<Uses>) -> Result<Pruned> {
        self.remove_where(uses, |volumes, dir, name| all || volumes.is_anonymous(dir, name))
    }

    fn is_anonymous(&self, dir: BorrowedFd<'_>, name: &str) -> bool {
        self.look(dir, name, &Uses::new()).is_ok_and(|volume| volume.labels.contains_key(ANONYMOUS))
    }

    pub(super) fn remove_where(
        &self,
        uses: impl FnOnce() -> Result<Uses>,
        which: impl Fn(&Volumes, BorrowedFd<'_>, &str) -> bool,
    ) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        if self.dir()?.is_none() {
            return Ok(pruned);
        }
        let locked = self.lock()?;
        let uses = uses()?;
        for name in names(locked.dir.as_fd()).context(|| format!("read {}", self.path))? {
            if !which(self, locked.dir.as_fd(), &name) {
                continue;
            }
            let taken =
                self.open_volume(locked.dir.as_fd(), &name).and_then(|volume| locked.take_away(&name, volume, &uses));
            match taken {
                Ok(_) => pruned.removed.push(name),
                Err(Error::InUse { .. } | Error::NoVolume(_)) => {}
                Err(error) => pruned.failed.push(error),
            }
        }
        let dir = locked.dir;
        flock(&dir, FlockOperation::Unlock).context(|| format!("unlock {}", self.path))?;
        // One after another, as there may be more of them than descriptors.
        for name in tree::names(dir.as_fd()).context(|| format!("read {}", self.path))? {
            let Some(old) = left_over(dir.as_fd(), name) else { continue };
            match self.clear(dir.as_fd(), old) {
                Ok(bytes) => pruned.bytes = pruned.bytes.saturating_add(bytes),
                Err(error) => pruned.failed.push(error),
            }
        }
        Ok(pruned)
    }

    /// Removes what was renamed; what it took, in bytes.
    fn clear(&self, dir: BorrowedFd<'_>, old: Old) -> Result<u64> {
        let path = self.path_of(&old.name);
        let failed = |stopped| Error::stopped("remove a volume", path.as_ref(), stopped);
        let bytes = tree::size(old.dir.as_fd()).map_err(failed)?;
        let name = CString::new(old.name.clone()).map_err(|_| Error::NoVolume(old.name.clone()))?;
        tree::remove(dir, &name).map_err(failed)?;
        Ok(bytes)
    }
}

/// What is called so if it is a volume that was to be removed, and nobody else is at it.
fn left_over(dir: BorrowedFd<'_>, name: CString) -> Option<Old> {
    let name = name.into_string().ok().filter(|name| name.starts_with(".old-"))?;
    let open = tree::open(dir, &CString::new(name.clone()).ok()?, OFlags::RDONLY | tree::DIRECTORY).ok()?;
    flock(&open, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(Old { name, dir: open })
}

/// A volume that is no longer one.
struct Old {
    name: String,
    /// Locked, which says that somebody is removing it.
    dir: OwnedFd,
}

impl Locked<'_> {
    /// Takes the name from a volume that nobody needs.
    fn take_away(&self, name: &str, volume: OwnedFd, uses: &Uses) -> Result<Old> {
        let in_use = |by: String| Err(Error::InUse { name: name.to_owned(), by });
        if let Some(bundle) = uses.get(name).and_then(|bundles| bundles.first()) {
            return in_use(format!("the bundle {bundle}"));
        }
        match flock(&volume, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return in_use("a process that fills it".to_owned()),
            locked => locked.context(|| format!("lock the volume {}", self.volumes.path_of(name)))?,
        }
        // One that cannot be read is nobody's.
        if let Ok(record) = open_record(volume.as_fd())
            && flock(&record, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
        {
            return in_use("a bundle that is being made".to_owned());
        }
        // Before anything is lost: what somebody has mounted there is not the volume's.
        self.volumes.open_data(volume.as_fd(), name).map(drop).or_else(|error| match error {
            Error::Sys { errno: Errno::NOENT, .. } => Ok(()),
            error => Err(error),
        })?;
        let old = format!(".old-{}", super::random(8)?);
        renameat(&self.dir, name, &self.dir, &*old)
            .context(|| format!("remove the volume {}", self.volumes.path_of(name)))?;
        Ok(Old { name: old, dir: volume })
    }
}
