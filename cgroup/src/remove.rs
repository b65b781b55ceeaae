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
use crate::systemd::{self, Scope};
use crate::walk;

/// How long processes that have been killed may take to go.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// See [`Place::remove`]. All hierarchies are tried, the first error is told.
pub(crate) fn remove(place: &Place) -> Result<(), Error> {
    let mut result = Ok(());
    let mut deadline = Deadline::after(PATIENCE);
    match &place.scope {
        Some(scope) if !scope.started => return forget(place, scope, &mut deadline),
        Some(scope) => result = stop(place, scope, &mut deadline),
        None => {}
    }
    // The cgroup of v2 comes first: it can tell when its processes have gone, and then they have gone everywhere.
    for directory in place.directories() {
        result = result.and(remove_directory(directory, &mut deadline));
    }
    result
}

/// Ends a scope, which takes its directories along. Not before it is empty: systemd would kill what is in it at its
/// leisure. Without systemd the directories are removed as others are, and nothing is missed.
fn stop(place: &Place, scope: &Scope, deadline: &mut Deadline) -> Result<(), Error> {
    for directory in place.directories() {
        let path = directory.full();
        let mut processes = Vec::new();
        loop {
            wait_unpopulated(directory, deadline)?;
            processes.clear();
            walk::processes(&path, &mut processes)?;
            if processes.is_empty() {
                break;
            }
            if !deadline.pause() {
                return Err(Error::Busy { path, waited: PATIENCE, processes });
            }
        }
    }
    match systemd::stop(scope) {
        Err(error) if place.directories().all(|directory| matches!(directory.exists(), Ok(false))) => {
            log::debug!("{error}");
            Ok(())
        }
        stopped => stopped,
    }
}

/// Takes back a scope of which it is not known that it was made. If it was, it held the container's first process, which
/// has ended, and systemd is about to forget it; one with processes in it is another container's.
fn forget(place: &Place, scope: &Scope, deadline: &mut Deadline) -> Result<(), Error> {
    let there = || place.directories().map(Directory::exists).try_fold(false, |any, one| Ok::<_, Error>(any | one?));
    while there()? {
        let mut processes = Vec::new();
        for directory in place.directories() {
            walk::processes(&directory.full(), &mut processes)?;
        }
        if !processes.is_empty() {
            return Ok(());
        }
        if !deadline.pause() {
            systemd::stop(scope)?;
            break;
        }
        // What systemd does not manage stays; what it does goes by itself.
        for directory in &place.v1 {
            files::remove_directory(&directory.full()).ok();
        }
    }
    Ok(())
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
