//! Cgroups that a container has made below its own, for another process to enter one of them.

use std::os::fd::OwnedFd;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat};
use rustix::io::Errno;

use crate::Cgroup;
use crate::error::{Context, Error};
use crate::path::{clean, join};
use crate::place::Directory;

/// A cgroup below a container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubCgroup<'a> {
    /// The cgroup v1 hierarchies it is meant for, each by one of its controllers or its name (`systemd`); all if
    /// empty, and cgroup v2.
    pub controllers: &'a [&'a str],
    /// Its path from the container's cgroup, which a leading slash stands for.
    pub path: &'a str,
}

/// See [`Cgroup::within`].
pub(crate) fn within(cgroup: &Cgroup, subs: &[SubCgroup<'_>]) -> Result<Cgroup, Error> {
    let mut place = cgroup.place.clone();
    for sub in subs {
        if let Some(name) = sub.controllers.iter().find(|name| !place.v1.iter().any(|it| is_named(it, name))) {
            return Err(Error::UnknownController { name: (*name).to_owned() });
        }
        let path = match sub.path {
            "/" | "." => "/".to_owned(),
            path => clean(path).map_err(|reason| Error::BadSubPath { path: path.to_owned(), reason })?,
        };
        let all = sub.controllers.is_empty();
        for (directory, own) in place.v1.iter_mut().zip(&cgroup.place.v1) {
            if all || sub.controllers.iter().any(|name| is_named(own, name)) {
                directory.path = join(&own.path, &path);
            }
        }
        if let (true, Some(directory), Some(own)) = (all, &mut place.unified, &cgroup.place.unified) {
            directory.path = join(&own.path, &path);
        }
    }
    for directory in &mut place.v1 {
        directory.made = 0;
        let path = directory.full();
        accessat(CWD, &*path, Access::EXISTS, AtFlags::empty()).context("enter", &path)?;
    }
    let mut unified = None;
    if let (Some(directory), Some(own), Some(fd)) = (&mut place.unified, &cgroup.place.unified, &cgroup.unified) {
        directory.made = 0;
        unified = match open_below(fd, own, directory) {
            // On a hybrid host containers use the v1 hierarchies: there need be no such cgroup in v2.
            Err(Errno::NOENT) if !place.v1.is_empty() => {
                directory.path.clone_from(&own.path);
                Some(open_below(fd, own, own).context("open", &own.full())?)
            }
            result => Some(result.context("enter", &directory.full())?),
        };
    }
    Ok(Cgroup::of(place, unified, false))
}

/// Opens a cgroup from the descriptor of one above it. No name is `..` (see `clean`) and there are no links.
fn open_below(fd: &OwnedFd, own: &Directory, directory: &Directory) -> Result<OwnedFd, Errno> {
    let below = match directory.path[own.path.len()..].trim_start_matches('/') {
        "" => ".",
        below => below,
    };
    openat(fd, below, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn is_named(directory: &Directory, name: &str) -> bool {
    directory.has(name) || directory.controllers.strip_prefix("name=") == Some(name)
}
