//! Removes a container's cgroup and what the container made below it.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, pread};

use crate::deadline::Deadline;
use crate::error::{Context, Error};
use crate::files::{self, text};
use crate::path::{join, parent};
use crate::place::{Directory, Place};
use crate::walk;

/// How long processes that have been killed may take to go.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// See [`Place::remove`]. All hierarchies are tried, the first error is told.
pub(crate) fn remove(place: &Place) -> Result<(), Error> {
    let mut result = Ok(());
    let mut deadline = Deadline::after(PATIENCE);
    // The cgroup of v2 comes first: it can tell when its processes have gone, and then they have gone everywhere.
    for directory in place.directories() {
        result = result.and(remove_directory(directory, &mut deadline));
    }
    result
}

/// Removes a cgroup of one hierarchy, those below it, and those above that were made for it and are in no other use.
pub(crate) fn remove_directory(directory: &Directory, deadline: &mut Deadline) -> Result<(), Error> {
    let path = directory.full();
    if !files::remove_directory(&path).context("rmdir", &path)? {
        remove_tree(directory, &path, deadline)?;
    }
    let mut above = parent(&directory.path);
    for _ in 0..directory.made {
        let path = join(&directory.mount, above);
        if !files::remove_directory(&path).context("rmdir", &path)? {
            break;
        }
        above = parent(above);
    }
    Ok(())
}

/// As long as there is something in it: removes what is below, and waits for processes to go.
fn remove_tree(directory: &Directory, path: &str, deadline: &mut Deadline) -> Result<(), Error> {
    loop {
        wait_unpopulated(directory, deadline)?;
        walk::remove_below(path)?;
        if files::remove_directory(path).context("rmdir", path)? {
            return Ok(());
        }
        if !deadline.pause() {
            let mut processes = Vec::new();
            walk::processes(path, &mut processes)?;
            return Err(Error::Busy { path: path.to_owned(), waited: PATIENCE, processes });
        }
    }
}

/// On cgroup v2, waits until no process is left in the cgroup or below, or the time is over. cgroup v1 cannot tell.
fn wait_unpopulated(directory: &Directory, deadline: &mut Deadline) -> Result<(), Error> {
    if !directory.controllers.is_empty() {
        return Ok(());
    }
    wait_for(directory, "populated 0", deadline).map(drop)
}

/// Waits for a line of cgroup.events; false when the time is over before. A cgroup that is gone has every line.
pub(crate) fn wait_for(directory: &Directory, line: &str, deadline: &mut Deadline) -> Result<bool, Error> {
    let path = directory.file("cgroup.events");
    let file = match openat(CWD, &*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::NODEV) => return Ok(true),
        result => result.context("open", &path)?,
    };
    let mut buffer = [0; 256];
    loop {
        let events = match pread(&file, &mut buffer, 0) {
            Err(Errno::NODEV) => return Ok(true),
            result => result.and_then(|length| text(&buffer[..length])).context("read", &path)?,
        };
        if events.lines().any(|event| event == line) {
            return Ok(true);
        }
        if !deadline.pause_for_change(file.as_fd()).context("poll", &path)? {
            return Ok(false);
        }
    }
}
