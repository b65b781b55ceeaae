//! When a new container's limits come into force, and what they do to its init.
//!
//! A small limit must not be in the way of setting the container up: with one process no createContainer hook could
//! run, with little memory or processor time the mounts would fail or take for ever. So limits are written when the
//! init has said that it is ready, and before anybody is told that the container is created. Hooks of the runtime
//! (prestart, createRuntime) see the cgroup without them, which the specification allows: of what there is when they
//! run it promises mounts and namespaces, not cgroups (config.md, createRuntime Hooks). What a process must be born
//! under - devices, processors, memory nodes, real-time bandwidth - is in force before it enters.

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::state::wait_readable;
use cgroup::{Cgroup, Limit, Place};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// How long the kernel may take to end a process that it has killed for want of memory, in milliseconds.
const DYING: i64 = 2000;

/// Puts the limits into force. The init waits meanwhile, and needs next to nothing; but where that is more than the
/// memory it gets, cgroup v2 kills it; cgroup v1 refuses the limit.
pub(crate) fn apply(plan: &Plan, cgroup: &Cgroup, init: Option<&OwnedFd>) -> Result<()> {
    if plan.resources.is_unlimited() {
        return Ok(());
    }
    let limited = matches!(plan.resources.memory.limit, Some(Limit::Of(_))) || !plan.resources.unified.is_empty();
    let memory_is_v1 = plan.cgroup.paths().any(|(names, _)| names.split(',').any(|name| name == "memory"));
    let may_kill = limited && !memory_is_v1;
    let before = if may_kill && !cgroup.is_fresh() { cgroup.oom_kills()? } else { 0 };
    cgroup.limit(&plan.resources)?;
    if let Some(init) = init.filter(|_| may_kill)
        && cgroup.oom_kills()? > before
        && wait_readable(init, Some(DYING))?
    {
        return Err(Error::OutOfMemory);
    }
    Ok(())
}

/// Why an init ended that said nothing. Looked at, not reaped: what is acquired is undone elsewhere.
pub(crate) fn how_it_died(words: String, init: &OwnedFd, cgroup: &Cgroup) -> Error {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let status = waitid(WaitId::PidFd(init.as_fd()), options).ok().flatten();
    match status.and_then(|status| status.terminating_signal()) {
        Some(libc::SIGKILL) if was_out_of_memory(cgroup.place()) => Error::OutOfMemory,
        Some(signal) => Error::ChildDied(format!("{words}: it was killed by signal {signal}")),
        None => Error::ChildDied(words),
    }
}

/// Whether processes of the container were killed for want of memory. A question for an error that is there already:
/// what cannot be told is no.
pub(crate) fn was_out_of_memory(place: &Place) -> bool {
    matches!(place.open(), Ok(Some(cgroup)) if cgroup.oom_kills().is_ok_and(|kills| kills > 0))
}
