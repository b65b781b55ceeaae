//! Makes a container's cgroup in every hierarchy, or none of it.

use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;

use crate::deadline::Deadline;
use crate::error::{Context, Error};
use crate::path::{join, parent};
use crate::place::{Directory, Place, open_directory};
use crate::systemd::{self, Property, Scope};
use crate::{Cgroup, DeviceRule, controllers, cpuset, freeze, own, remove, walk};

/// How often a directory above is made again that another runtime, ending a container of its own, removed meanwhile.
const ATTEMPTS: u32 = 16;

/// See [`Place::create`].
pub(crate) fn create(place: &Place) -> Result<Cgroup, Error> {
    if place.is_scope() {
        return Ok(Cgroup::of(place.clone(), None, true));
    }
    let mut made = Made { directories: Vec::new(), armed: true };
    let mut place = place.clone();
    let mut fresh = false;
    for directory in &mut place.v1 {
        made.make(directory)?;
        if directory.has("cpuset") {
            cpuset::fill(directory)?;
        }
    }
    let mut unified = None;
    if let Some(directory) = &mut place.unified {
        fresh = made.make(directory)?;
        // Where controllers are in v1 hierarchies, those of the v2 are the host's alone.
        if place.v1.is_empty() {
            controllers::enable(directory)?;
        }
        let path = directory.full();
        unified = Some(open_directory(&path).context("open", &path)?);
    }
    made.armed = false;
    Ok(Cgroup::of(place, unified, fresh))
}

/// See [`Cgroup::start`].
pub(crate) fn start(
    cgroup: &mut Cgroup,
    scope: &Scope,
    pid: i32,
    rules: &[DeviceRule],
    more: &[Property],
) -> Result<(), Error> {
    let started = systemd::start(scope, pid, rules, !cgroup.place.v1.is_empty(), more);
    // Where systemd has put it is what counts, should its own root be elsewhere than it seemed. A process that has ended
    // meanwhile is in no cgroup of its own any more.
    let path = own::systemds(&pid.to_string()).ok().filter(|path| path.ends_with(&scope.path()));
    // After an error too it may have been made; if not, it can be another container's that goes by that name.
    if started.is_ok() || path.is_some() {
        cgroup.place.scope = Some(Scope { started: true, ..scope.clone() });
    }
    if let Some(path) = path {
        for directory in cgroup.place.v1.iter_mut().chain(&mut cgroup.place.unified) {
            directory.path.clone_from(&path);
        }
    }
    started?;
    let mut made = Made { directories: Vec::new(), armed: true };
    for directory in &mut cgroup.place.v1 {
        make_beside(&mut made, directory)?;
    }
    if let Some(directory) = &mut cgroup.place.unified {
        make_beside(&mut made, directory)?;
        let path = directory.full();
        cgroup.unified = Some(open_directory(&path).context("open", &path)?);
    }
    made.armed = false;
    Ok(())
}

/// A directory that systemd has not made, as it does not manage that hierarchy.
fn make_beside(made: &mut Made, directory: &mut Directory) -> Result<(), Error> {
    if directory.exists()? {
        return Ok(());
    }
    made.make(directory)?;
    if directory.has("cpuset") {
        cpuset::fill(directory)?;
    }
    Ok(())
}

/// What has been made so far; removed again unless disarmed.
struct Made {
    directories: Vec<Directory>,
    armed: bool,
}

impl Made {
    /// Makes a directory and what is missing above, and notes in it how many of these that were. False when it was
    /// there already and is fit to be used.
    fn make(&mut self, directory: &mut Directory) -> Result<bool, Error> {
        let path = directory.full();
        for _ in 0..ATTEMPTS {
            match mkdirat(CWD, &*path, MODE) {
                Ok(()) => {
                    self.directories.push(directory.clone());
                    return Ok(true);
                }
                Err(Errno::EXIST) => {
                    check_unused(directory)?;
                    return Ok(false);
                }
                Err(Errno::NOENT) if parent(&directory.path) != "/" => {
                    make_above(directory).inspect_err(|_| self.directories.push(directory.clone()))?;
                }
                Err(errno) => {
                    self.directories.push(directory.clone());
                    return Err(errno).context("mkdir", &path);
                }
            }
        }
        Err(Errno::NOENT).context("mkdir", &path)
    }
}

const MODE: Mode = Mode::from_raw_mode(0o755);

/// Makes the directories above one, as far as they are missing, and notes how many are. A level that vanishes
/// meanwhile is left to the next attempt.
fn make_above(directory: &mut Directory) -> Result<(), Error> {
    let above = parent(&directory.path);
    let ends: Vec<usize> = above.match_indices('/').map(|(at, _)| at).skip(1).chain([above.len()]).collect();
    for (level, end) in ends.iter().enumerate() {
        let path = join(&directory.mount, &above[..*end]);
        match mkdirat(CWD, &*path, MODE) {
            // Below one that was made all is new.
            Ok(()) if directory.made == 0 => directory.made = (ends.len() - level) as u32,
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::NOENT) if level > 0 => return Ok(()),
            Err(errno) => return Err(errno).context("mkdir", &path),
        }
    }
    Ok(())
}

/// A cgroup that is there already may be used if nothing runs in it and what is put into it would run.
fn check_unused(directory: &Directory) -> Result<(), Error> {
    let path = directory.full();
    let mut pids = Vec::new();
    walk::processes(&path, &mut pids)?;
    if !pids.is_empty() {
        return Err(Error::NotEmpty { path, processes: pids.len() });
    }
    if freeze::is_frozen(directory)? {
        return Err(Error::Frozen { path });
    }
    Ok(())
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // The error that led here is the one to report.
        for directory in &self.directories {
            if let Err(error) = remove::remove_directory(directory, &mut Deadline::after(remove::PATIENCE)) {
                log::warn!("undoing the creation of a cgroup: {error}");
            }
        }
    }
}
