//! Reaps the orphans that become the suite's children, as an engine does while
//! it waits for the runtime: a process entered into a container from outside
//! and not reaped keeps the container's pid namespace from ending.
//!
//! Not for the processes that the suite starts itself, whose ends are waited for
//! where they were started: those are kept, see [`keep`].

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{LazyLock, Mutex, MutexGuard};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

#[derive(Debug, Default)]
struct Reaper {
    kept: HashSet<i32>,
    ended: HashMap<i32, i32>,
}

static REAPER: LazyLock<Mutex<Reaper>> = LazyLock::new(Mutex::default);

fn reaper() -> MutexGuard<'static, Reaper> {
    REAPER.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Has `collect` leave this child alone.
pub fn keep(pid: i32) {
    reaper().kept.insert(pid);
}

/// Takes back [`keep`].
pub fn release(pid: i32) {
    reaper().kept.remove(&pid);
}

/// Takes back every [`keep`]: what is left then was never waited for.
pub fn release_all() {
    reaper().kept.clear();
}

/// Forgets what has been collected so far: pids are used again.
pub fn forget_all() {
    reaper().ended.clear();
}

/// Forgets how an earlier process of this number ended.
pub fn forget(pid: i32) {
    reaper().ended.remove(&pid);
}

/// The exit code of a child that has been collected.
pub fn exit_code(pid: i32) -> Option<i32> {
    reaper().ended.get(&pid).copied()
}

/// Reaps every child that has ended and is not kept, and remembers its exit
/// code (128+N for signal N).
pub fn collect() {
    let mut reaper = reaper();
    for pid in children() {
        if reaper.kept.contains(&pid) {
            continue;
        }
        let code = match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            _ => continue,
        };
        reaper.ended.insert(pid, code);
    }
}

/// The children of this process (proc_pid_task(5), `children`).
fn children() -> Vec<i32> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().filter_map(Result::ok);
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()).collect()
}
