//! Where a container is in its life (runtime.md, State), asked from the kernel each time.

use super::dir::StateDir;
use super::process::{Process, ProcessStat};
use super::record::{Record, Restore, SocketName};
use crate::error::Result;

/// config: creating, created, running, stopped are the spec's; paused is runc's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container's status with its init process, if that lives.
pub(crate) fn view(dir: &StateDir, record: &Record<'_>) -> Result<(Status, Option<Process>)> {
    let init = record.init.map(|init| init.open(record)).transpose()?.flatten();
    Ok((status(|| Ok(dir), record, init.as_ref().map(|init| &init.stat))?, init))
}

/// A container's status and the pid of its init process, for who does nothing to either: nothing is held, so that it may
/// have changed already. 0: it does not live. Of one that runs the directory is not needed.
pub(crate) fn glance<'d>(dir: impl FnOnce() -> Result<&'d StateDir>, record: &Record<'_>) -> Result<(Status, i32)> {
    let init = record.init.map(|init| init.look(record)).transpose()?.flatten();
    let pid = record.init.filter(|_| init.is_some()).map_or(0, |init| init.pid);
    Ok((status(dir, record, init.as_ref())?, pid))
}

fn status<'d>(
    dir: impl FnOnce() -> Result<&'d StateDir>,
    record: &Record<'_>,
    init: Option<&ProcessStat>,
) -> Result<Status> {
    let Some(init) = init else {
        let creating = record.init.is_none() && dir()?.is_locked();
        return Ok(if creating { Status::Creating } else { Status::Stopped });
    };
    let executed = init.has_executed() || record.restore == Some(Restore::Done);
    let created = !executed && dir()?.exists(SocketName::CREATED);
    Ok(match () {
        () if !executed && !created => Status::Creating,
        () if record.cgroup.is_frozen()? => Status::Paused,
        () if created => Status::Created,
        () => Status::Running,
    })
}
