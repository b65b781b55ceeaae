//! The place where programs run: a mount namespace of the driver's own, the
//! runtimes' state directories fresh in it, and below one directory all that is
//! made for a run.
//!
//! Not here: cgroups, which a script in `settings/` gives to the driver.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::Error;
use crate::sys;

/// The suite calls a runtime without `--root`: these are where the runtimes keep
/// their state then.
const STATE: [&str; 3] = ["/run/proa", "/run/runc", "/run/crun"];

/// What the programs read from the directory that they are started in.
const INPUT: [&str; 3] = ["runtimetest", "rootfs-amd64.tar.gz", "rootfs-386.tar.gz"];

/// The place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    work: TempDir,
    state: Vec<State>,
}

#[derive(Debug)]
struct State {
    dir: PathBuf,
    is_new: bool,
}

impl Place {
    /// Makes the place, with what the programs read from the folder `suite`.
    ///
    /// # Errors
    /// If this is not run by root, or there is no room.
    pub fn new(suite: &Path) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        unshare(CloneFlags::CLONE_NEWNS).map_err(system("make a mount namespace"))?;
        // What the machine mounts meanwhile is seen; what is mounted here stays here.
        let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).map_err(system("cut mounts off"))?;
        sys::become_subreaper().map_err(Error::file("adopt the orphans of", Path::new("a program")))?;

        let work = tempfile::Builder::new().prefix("suite-").tempdir();
        let work = work.map_err(Error::file("make a directory in", &std::env::temp_dir()))?;
        // A container's root may be a user who owns nothing here.
        open_to_all(work.path())?;
        let input = work.path().join("in");
        fs::create_dir(&input).map_err(Error::file("make", &input))?;
        open_to_all(&input)?;
        for name in INPUT {
            let from = suite.join(name);
            if from.exists() {
                fs::copy(&from, input.join(name)).map_err(Error::file("copy", &from))?;
            }
        }
        let state = STATE.iter().map(|dir| State::new(Path::new(dir))).collect::<Result<_, _>>()?;
        Ok(Self { work, state })
    }

    /// The directory that programs are started in.
    pub fn input(&self) -> PathBuf {
        self.work.path().join("in")
    }

    /// The directory below which everything of a run is.
    pub fn base(&self) -> &Path {
        self.work.path()
    }

    /// Makes a directory for one program to put its temporary files in.
    ///
    /// # Errors
    /// If there is no room.
    pub fn temporary(&self, program: &str) -> Result<PathBuf, Error> {
        let dir = self.work.path().join(program);
        fs::create_dir(&dir).map_err(Error::file("make", &dir))?;
        open_to_all(&dir)?;
        Ok(dir)
    }

    /// What the runtimes keep: directories of containers by id. What crun keeps
    /// for all of them has hidden names.
    pub fn state(&self) -> Vec<PathBuf> {
        let all = self.state.iter().flat_map(|state| fs::read_dir(&state.dir).into_iter().flatten());
        let shown = all.filter_map(Result::ok).filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        shown.map(|entry| entry.path()).collect()
    }
}

impl State {
    fn new(dir: &Path) -> Result<Self, Error> {
        let is_new = !dir.exists();
        fs::create_dir_all(dir).map_err(Error::file("make", dir))?;
        let options = Some("mode=0711");
        mount(Some("suite"), dir, Some("tmpfs"), MsFlags::empty(), options)
            .map_err(|source| Error::System { what: "mount a fresh state directory", source })?;
        Ok(Self { dir: dir.to_owned(), is_new })
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.dir, MntFlags::MNT_DETACH) {
            log::warn!("cannot unmount {}: {error}", self.dir.display());
        }
        if self.is_new {
            // Somebody else may have begun to use it.
            fs::remove_dir(&self.dir).ok();
        }
    }
}

fn open_to_all(dir: &Path) -> Result<(), Error> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(Error::file("open", dir))
}
