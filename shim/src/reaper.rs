//! The one place that waits for children: calls of the runtime, inits and other processes of containers, loggers, and the
//! orphans that a subreaper is given.
//!
//! A process of a container is known by its pid only once the runtime has written it down, and may have ended by then.
//! While such a call is under way, a child that nobody knows stays a zombie, so that its pid can be no other's: until it
//! is asked for, or no call is left that began before it was seen.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::sync::oneshot;

use crate::sys;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Its status, or 128 and the signal.
    pub(crate) status: u32,
    /// When it was seen.
    pub(crate) at: SystemTime,
}

impl Exit {
    /// Now, with a status.
    pub(crate) fn now(status: u32) -> Exit {
        Exit { status, at: SystemTime::now() }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<i32, oneshot::Sender<Exit>>,
    /// A zombie that may be asked for, and when it was first seen.
    held: Option<(i32, u64)>,
    /// The calls under way that will name a pid, by when they began.
    calls: BTreeSet<u64>,
    /// The next moment.
    now: u64,
}

/// While it lives, the pid of a child may still become known.
#[derive(Debug)]
pub(crate) struct Expecting {
    reaper: Arc<Reaper>,
    since: u64,
}

impl Drop for Expecting {
    fn drop(&mut self) {
        self.reaper.with(|state| state.calls.remove(&self.since));
        self.reaper.sweep();
    }
}

impl Reaper {
    /// A panic elsewhere leaves nothing half done in here.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on children that nobody knows are kept.
    pub(crate) fn expect(self: &Arc<Self>) -> Expecting {
        let since = self.with(|state| {
            let since = state.tick();
            state.calls.insert(since);
            since
        });
        Expecting { reaper: self.clone(), since }
    }

    /// Tells when the child ends, or has ended. One asks once for each.
    pub(crate) fn watch(&self, pid: i32) -> oneshot::Receiver<Exit> {
        let (tell, told) = oneshot::channel();
        self.with(|state| {
            state.known.insert(pid, tell);
            state.collect(pid);
        });
        told
    }

    /// Takes every child that has ended. To be called on SIGCHLD.
    pub(crate) fn sweep(&self) {
        self.with(State::sweep);
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn sweep(&mut self) {
        loop {
            let Some(pid) = sys::any_zombie() else { return };
            if self.known.contains_key(&pid) {
                self.collect(pid);
            } else if self.may_be_asked_for(pid) {
                // It hides those behind it.
                for pid in self.known.keys().copied().collect::<Vec<_>>() {
                    self.collect(pid);
                }
                return;
            } else if wait_for(pid).is_none() {
                return;
            }
        }
    }

    fn may_be_asked_for(&mut self, pid: i32) -> bool {
        let seen = match self.held {
            Some((held, seen)) if held == pid => seen,
            _ => {
                let seen = self.tick();
                self.held = Some((pid, seen));
                seen
            }
        };
        let asked_for = self.calls.first().is_some_and(|first| *first < seen);
        if !asked_for {
            self.held = None;
        }
        asked_for
    }

    /// Takes this child, if it has ended, and tells.
    fn collect(&mut self, pid: i32) {
        if let Some(exit) = wait_for(pid) {
            if self.held.is_some_and(|(held, _)| held == pid) {
                self.held = None;
            }
            if let Some(tell) = self.known.remove(&pid) {
                // Nobody may be interested any more.
                tell.send(exit).ok();
            }
        }
    }
}

/// Takes a child that has ended. One that is no child of this process counts as ended, with 255: the runtime has named a
/// process that does not come back to the subreaper.
fn wait_for(pid: i32) -> Option<Exit> {
    let id = Pid::from_raw(pid)?;
    match waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(Some(status)) => {
            let signal = status.terminating_signal().map(|signal| 128 + signal as u32);
            Some(Exit::now(signal.or(status.exit_status().map(|it| it as u32)).unwrap_or(255)))
        }
        Ok(None) => None,
        Err(_) => Some(Exit::now(255)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::thread::sleep;
    use std::time::Duration;

    /// The children of other tests are in the way of each other's: one test has all.
    #[test]
    fn children_are_told_apart() {
        let reaper = Arc::new(Reaper::default());
        let spawn = |script: &str| Command::new("sh").args(["-c", script]).spawn().unwrap().id() as i32;
        let settle = || sleep(Duration::from_millis(100));

        let pid = spawn("exit 3");
        let mut told = reaper.watch(pid);
        settle();
        reaper.sweep();
        assert_eq!(told.try_recv().unwrap().status, 3);

        // Ended before its pid is known, with another that is known behind it.
        let expecting = reaper.expect();
        let early = spawn("kill -9 $$");
        settle();
        let known = spawn("exit 4");
        let mut known = reaper.watch(known);
        settle();
        reaper.sweep();
        assert_eq!(known.try_recv().unwrap().status, 4);
        let mut told = reaper.watch(early);
        assert_eq!(told.try_recv().unwrap().status, 128 + 9);

        // One that nobody asks for goes with the call; a later call does not keep it.
        let orphan = spawn("exit 5");
        settle();
        reaper.sweep();
        assert!(std::path::Path::new(&format!("/proc/{orphan}")).exists());
        let later = reaper.expect();
        drop(expecting);
        assert!(!std::path::Path::new(&format!("/proc/{orphan}")).exists());
        drop(later);
        assert_eq!(reaper.watch(orphan).try_recv().unwrap().status, 255);
    }
}
