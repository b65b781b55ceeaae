//! The processes of a cgroup, held still by ptrace(2): none executes an instruction of its own before it is let go.

use crate::error::{Context, Error, Result};
use crate::sys;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;

/// All threads of all processes of a container.
pub(crate) struct Held {
    threads: BTreeMap<i32, Vec<i32>>,
    cgroup: cgroup::Place,
    init: i32,
}

impl Held {
    /// Takes over the processes of a cgroup that is frozen, and thaws it.
    pub(crate) fn take(cgroup: &cgroup::Cgroup, init: i32) -> Result<Held> {
        let mut held = Held { threads: BTreeMap::new(), cgroup: cgroup.place().clone(), init };
        for process in cgroup.procs()? {
            let threads = held.threads.entry(process).or_default();
            for thread in threads_of(process)? {
                let what = || format!("hold restored process {thread}");
                match sys::seize(thread) {
                    // A zombie is none that could run.
                    Err(Errno::PERM | Errno::SRCH) if has_ended(thread)? => continue,
                    seized => seized.context(what)?,
                }
                sys::interrupt(thread).context(what)?;
                threads.push(thread);
            }
        }
        if !held.threads.contains_key(&init) {
            return Err(Error::ChildDied("ended while it was restored".to_owned()));
        }
        cgroup.thaw()?;
        for threads in held.threads.values_mut() {
            let mut ended = Vec::new();
            for thread in threads.iter().copied() {
                if !sys::wait_stopped(thread).context(|| format!("wait for restored process {thread} to stop"))? {
                    ended.push(thread);
                }
            }
            threads.retain(|thread| !ended.contains(thread));
        }
        held.threads.retain(|_, threads| !threads.is_empty());
        match held.threads.contains_key(&init) {
            true => Ok(held),
            false => Err(Error::ChildDied("ended while it was restored".to_owned())),
        }
    }

    pub(super) fn processes(&self) -> impl Iterator<Item = i32> {
        self.threads.keys().copied()
    }

    pub(super) fn threads_of(&self, process: i32) -> impl Iterator<Item = i32> {
        self.threads.get(&process).into_iter().flatten().copied()
    }

    /// Lets them run on.
    pub(crate) fn release(&mut self) -> Result<()> {
        for thread in std::mem::take(&mut self.threads).into_values().flatten() {
            match sys::detach(thread) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(errno).context(|| format!("let go of restored process {thread}")),
            }
        }
        Ok(())
    }
}

/// Not let go of, they end. What is traced is gone only once its tracer has been told so; the init's end is left to
/// whoever made it.
impl Drop for Held {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        for process in self.threads.keys().filter_map(|pid| Pid::from_raw(*pid)) {
            kill_process(process, Signal::KILL).ok();
        }
        if let Ok(Some(cgroup)) = self.cgroup.open() {
            cgroup.let_die().ok();
        }
        for (process, threads) in &self.threads {
            for thread in threads.iter().filter(|thread| *thread != process) {
                sys::wait_ended(*thread).ok();
            }
        }
        for process in self.threads.keys().filter(|pid| **pid != self.init) {
            sys::wait_ended(*process).ok();
        }
    }
}

fn has_ended(thread: i32) -> Result<bool> {
    Ok(crate::state::ProcessStat::read(thread)?.is_none_or(|stat| stat.has_ended()))
}

fn threads_of(process: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{process}/task");
    let what = || format!("read {path}");
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(&path).context(what)? {
        threads.extend(entry.context(what)?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(threads)
}
