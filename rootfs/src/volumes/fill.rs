//! An empty volume is filled, once, with what the image has where it is mounted.
//!
//! The copy is made in `filling/`, which is renamed to `ready/` when it is whole. What is in `ready/` then moves into
//! `data/`, name by name, and `data/` becomes what the image's directory was. Whoever finds `ready/` goes on with that,
//! so that a process may be killed at any moment. `data/` is never another directory than it was: a container that has it
//! mounted already sees what comes.

use super::{Budget, Context, Error, Result, Volumes, attributes, check_name, copy};
use crate::host::wait_for_lock;
use crate::tree;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, fstat, mkdirat, openat, renameat, renameat_with, syncfs, unlinkat,
};
use rustix::io::Errno;

/// What became of a call of [`Volumes::fill`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// It has what the image has.
    Now,
    /// It was filled before, or something was in it.
    Before,
}

/// A volume that nobody else fills meanwhile.
pub(super) struct Held<'v> {
    volumes: &'v Volumes,
    name: &'v str,
    pub(super) dir: OwnedFd,
}

impl Volumes {
    /// Fills a volume that is empty and never was filled with the content of `image`, a directory that may have been
    /// opened with O_PATH, and makes the volume's directory what that one is: owner, mode, attributes, times. Waits for
    /// whoever is filling it. The budget is that of all volumes that are filled from one image.
    ///
    /// # Errors
    /// What cannot be copied, or that there is more than the budget has room for. The volume is empty then, and the next call tries again.
    pub fn fill(&self, name: &str, image: BorrowedFd<'_>, budget: &mut Budget) -> Result<Filled> {
        let held = self.hold(name)?;
        if held.go_on()? {
            return Ok(Filled::Before);
        }
        let data = self.open_data(held.dir.as_fd(), name)?;
        if !tree::is_empty(data.as_fd()).context(|| format!("read {}", self.mountpoint(name)))? {
            held.mark()?;
            return Ok(Filled::Before);
        }
        held.copy_aside(image, budget)?;
        held.settle()?;
        Ok(Filled::Now)
    }

    /// Completes what a process that was killed while it filled the volume has left undone. For who mounts a volume
    /// without filling it.
    pub fn complete(&self, name: &str) -> Result<()> {
        self.hold(name)?.go_on().map(drop)
    }

    /// Locks a volume.
    fn hold<'v>(&'v self, name: &'v str) -> Result<Held<'v>> {
        check_name(name)?;
        let volumes = self.dir()?.ok_or_else(|| Error::NoVolume(name.to_owned()))?;
        loop {
            let dir = self.open_volume(volumes.as_fd(), name)?;
            wait_for_lock(dir.as_fd()).context(|| format!("lock the volume {}", self.path_of(name)))?;
            // Removed while this waited, and perhaps made again.
            let now = self.open_volume(volumes.as_fd(), name)?;
            let place = |dir: &OwnedFd| fstat(dir).map(|stat| tree::place(&stat));
            let same = place(&dir).and_then(|held| Ok(place(&now)? == held));
            if same.context(|| format!("look at the volume {}", self.path_of(name)))? {
                return Ok(Held { volumes: self, name, dir });
            }
        }
    }
}

impl Held<'_> {
    fn what(&self, doing: &str) -> String {
        format!("fill the volume {}: {doing}", self.volumes.path_of(self.name))
    }

    fn stopped(&self, name: &str, stopped: tree::Stopped) -> Error {
        let root = format!("{}/{name}", self.volumes.path_of(self.name));
        Error::stopped(&format!("fill the volume {}", self.name), root.as_ref(), stopped)
    }

    /// Whether it is filled, now that what another process began is completed.
    fn go_on(&self) -> Result<bool> {
        match rustix::fs::statat(&self.dir, c"ready", AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => self.settle().map(|()| true),
            Err(Errno::NOENT) => match rustix::fs::statat(&self.dir, c"filled", AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Ok(true),
                Err(Errno::NOENT) => Ok(false),
                Err(errno) => Err(errno).context(|| self.what("look at filled")),
            },
            Err(errno) => Err(errno).context(|| self.what("look at ready")),
        }
    }

    /// Copies the image's directory to `ready/`.
    fn copy_aside(&self, image: BorrowedFd<'_>, budget: &mut Budget) -> Result<()> {
        let aside = c"filling";
        let clear = || tree::remove(self.dir.as_fd(), aside).map_err(|stopped| self.stopped("filling", stopped));
        clear()?;
        mkdirat(&self.dir, aside, Mode::RWXU).context(|| self.what("make filling"))?;
        let copied = tree::open(self.dir.as_fd(), aside, OFlags::RDONLY | tree::DIRECTORY)
            .context(|| self.what("open filling"))
            .and_then(|to| copy::tree(image, to.as_fd(), budget).map_err(|stopped| self.stopped("", stopped)));
        if let Err(error) = budget.explain(copied) {
            // A full disk is not to stay full; the first error is the one to tell.
            clear().ok();
            return Err(error);
        }
        // A name on disk must not come before its content: a crash of the machine would leave empty files, and the mark.
        syncfs(&self.dir).context(|| self.what("write to disk"))?;
        renameat(&self.dir, aside, &self.dir, c"ready").context(|| self.what("rename filling"))
    }

    /// Moves what is in `ready/` into `data/`.
    fn settle(&self) -> Result<()> {
        let open = |name| tree::open(self.dir.as_fd(), name, OFlags::RDONLY | tree::DIRECTORY);
        let ready = open(c"ready").context(|| self.what("open ready"))?;
        // Before its own time changes with what goes.
        let stat = fstat(&ready).context(|| self.what("look at ready"))?;
        let data = self.volumes.open_data(self.dir.as_fd(), self.name)?;
        for name in tree::names(ready.as_fd()).context(|| self.what("read ready"))? {
            match renameat_with(&ready, &*name, &data, &*name, RenameFlags::NOREPLACE) {
                Ok(()) => {}
                // A container that has it mounted was faster: what it made stays.
                Err(Errno::EXIST) => {
                    tree::remove(ready.as_fd(), &name).map_err(|stopped| self.stopped("ready", stopped))?;
                }
                Err(errno) => return Err(errno).context(|| self.what(&format!("move {}", name.to_string_lossy()))),
            }
        }
        attributes::copy(ready.as_fd(), data.as_fd(), &stat)
            .map_err(|(what, errno)| Error::Sys { what: self.what(&format!("{what} data")), errno })?;
        self.mark()?;
        unlinkat(&self.dir, c"ready", AtFlags::REMOVEDIR).context(|| self.what("remove ready"))
    }

    /// From now on it is never filled again.
    fn mark(&self) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.dir, c"filled", flags, Mode::RUSR | Mode::WUSR)
            .map(drop)
            .context(|| self.what("mark it as filled"))
    }
}
