//! The cgroup of a container, read and never written: what it uses, who is in it, when the kernel kills for want of
//! memory.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use cgroup::{Cgroup, Host, OomWatch, Usage};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{Error, Result};
use crate::sys;

/// See the module.
pub(crate) struct Watched {
    /// A copy of the watch's descriptor.
    oom: Option<AsyncFd<OwnedFd>>,
    /// None when the cgroup could not be found: then there are no figures.
    inner: Mutex<Option<(Cgroup, Option<OomWatch>)>>,
}

/// Asked once: it does not change while a shim lives.
fn host() -> Option<&'static Host> {
    static HOST: OnceLock<Option<Host>> = OnceLock::new();
    HOST.get_or_init(|| Host::detect().inspect_err(|error| log::warn!("no figures of cgroups: {error}")).ok()).as_ref()
}

/// Whether the memory of containers is counted by cgroup v1.
pub(crate) fn is_v1() -> bool {
    host().is_some_and(|host| host.has_v1("memory") || host.has_v1("cpu"))
}

/// What the processes of a cgroup use, by its path from the root of the hierarchies.
///
/// # Errors
/// There is none, or it cannot be read.
pub(crate) fn of_path(path: &Path) -> Result<Usage> {
    let missing = || Error::NotFound(format!("there is no cgroup {:?}", path.display()));
    let host = host().ok_or_else(missing)?;
    let failed = |error: cgroup::Error| Error::Failed(error.to_string());
    let path = path.to_str().filter(|path| !path.is_empty()).ok_or_else(missing)?;
    let cgroup = host.place(Some(path), "pod").and_then(|place| place.open()).map_err(failed)?;
    cgroup.ok_or_else(missing)?.usage().map_err(failed)?.ok_or_else(missing)
}

impl Watched {
    /// The cgroup in which a process is now: an init that has not run yet is where the runtime has put it.
    pub(crate) fn of(pid: i32) -> Watched {
        let opened = host().and_then(|host| match host.place_of(pid).and_then(|place| place.open()) {
            Ok(opened) => opened,
            Err(error) => {
                log::warn!("no figures of the cgroup of pid {pid}: {error}");
                None
            }
        });
        let watched = opened.map(|cgroup| {
            let watch = cgroup.watch_oom().inspect_err(|error| log::warn!("pid {pid}: {error}")).ok().flatten();
            (cgroup, watch)
        });
        let fd = watched.as_ref().and_then(|(_, watch)| watch.as_ref()?.fd().try_clone_to_owned().ok());
        let oom = fd.and_then(|fd| sys::watch(fd, Interest::READABLE).ok());
        Watched { inner: Mutex::new(watched), oom }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Cgroup, &mut Option<OomWatch>) -> T) -> Option<T> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.as_mut().map(|(cgroup, watch)| act(cgroup, watch))
    }

    /// How many processes the kernel has killed since it was last asked.
    pub(crate) fn new_kills(&self) -> u64 {
        let kills = self.with(|cgroup, watch| watch.as_mut().map_or(0, |watch| watch.new_kills(cgroup).unwrap_or(0)));
        kills.unwrap_or(0)
    }

    /// Waits until there may have been a kill; for ever where that is not told.
    pub(crate) async fn may_have_killed(&self) {
        match &self.oom {
            Some(fd) => match fd.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    /// What the container uses.
    ///
    /// # Errors
    /// Its cgroup is gone, or cannot be read.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let usage = self.with(|cgroup, _| cgroup.usage());
        match usage {
            Some(Ok(Some(usage))) => Ok(usage),
            Some(Err(error)) => Err(Error::Failed(error.to_string())),
            _ => Err(Error::NotFound("the container has no cgroup".into())),
        }
    }

    /// The processes in it and below.
    ///
    /// # Errors
    /// Its cgroup is gone, or cannot be read.
    pub(crate) fn processes(&self) -> Result<Vec<i32>> {
        match self.with(|cgroup, _| cgroup.procs()) {
            Some(Ok(pids)) => Ok(pids),
            Some(Err(error)) => Err(Error::Failed(error.to_string())),
            None => Err(Error::NotFound("the container has no cgroup".into())),
        }
    }
}
