//! Takes back what create acquired, last in first out, unless the container came to be.

use super::net_devices::Moved;
use crate::state::{HostMounts, StateDir, StateRoot};
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::path::PathBuf;

/// Each field is set when that thing was acquired.
pub(crate) struct Undo<'a> {
    root: &'a StateRoot,
    pub dir: Option<StateDir>,
    pub cgroup: Option<cgroup::Place>,
    /// With the path of the root.
    pub host_mounts: Option<(String, HostMounts)>,
    pub init: Option<OwnedFd>,
    pub resctrl: Vec<String>,
    pub net_devices: Option<Moved>,
    pub pid_file: Option<PathBuf>,
}

impl<'a> Undo<'a> {
    pub(crate) fn new(root: &'a StateRoot, dir: StateDir) -> Undo<'a> {
        Undo {
            root,
            dir: Some(dir),
            cgroup: None,
            host_mounts: None,
            init: None,
            resctrl: Vec::new(),
            net_devices: None,
            pid_file: None,
        }
    }

    /// The container is: nothing is to be undone any more.
    pub(crate) fn disarm(mut self) -> (Option<StateDir>, Option<OwnedFd>) {
        self.cgroup = None;
        self.host_mounts = None;
        self.resctrl.clear();
        self.net_devices = None;
        self.pid_file = None;
        (self.dir.take(), self.init.take())
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.pid_file.take() {
            std::fs::remove_file(path).ok();
        }
        // While their namespace is there.
        if let Some(mut moved) = self.net_devices.take() {
            moved.put_back();
        }
        if let Some(pidfd) = self.init.take() {
            end(&pidfd);
        }
        if let Some((path, mounts)) = self.host_mounts.take()
            && let Err(error) = super::host_mounts::remove(&path, &mounts)
        {
            log::debug!("undo: {error}");
            return;
        }
        // A failure here must not hide the one that led here: delete --force has the record to try again.
        if let Some(place) = self.cgroup.take() {
            if let Ok(Some(cgroup)) = place.open() {
                cgroup.kill().ok();
            }
            if let Err(error) = place.remove() {
                log::debug!("undo: {error}");
                return;
            }
        }
        super::intel_rdt::remove(&self.resctrl);
        if let Some(dir) = self.dir.take()
            && let Err(error) = self.root.remove(&dir)
        {
            log::debug!("undo: {error}");
        }
    }
}

/// Kills and reaps a child.
fn end(pidfd: &OwnedFd) {
    sys::send_signal(pidfd.as_fd(), libc::SIGKILL).ok();
    rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)).ok();
}
